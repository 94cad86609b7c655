//! The peek at a ClientHello: any bytes in any portions end in a hello, an error or a wish for more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let mut acceptor = Acceptor::default();
    for portion in bytes.chunks(usize::from(size) + 1) {
        let mut rest = portion;
        while !rest.is_empty() {
            match acceptor.read_tls(&mut rest) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let _ = (hello.server_name(), hello.alpn().map(Iterator::count));
                    return;
                }
                Err(_) => return,
            }
        }
    }
});
