//! WebSocket frames: any bytes in any portions are cut into the same frames, and none is lost.
#![no_main]

use bridged::websocket::frames::{FrameError, Frames, Opcode};
use libfuzzer_sys::fuzz_target;

type Frame = (Opcode, bool, Vec<u8>, bool);

fn read<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, usize, Option<FrameError>) {
    let (mut frames, mut read, mut covered) = (Frames::default(), Vec::<Frame>::new(), 0);
    for mut portion in portions {
        loop {
            match frames.next(&mut portion) {
                Ok(None) => break,
                Err(error) => return (read, covered, Some(error)),
                Ok(Some(part)) => {
                    assert!(!part.wire.is_empty() && part.len() <= part.wire.len());
                    covered += part.wire.len();
                    if part.begins {
                        read.push((part.opcode, part.is_final, Vec::new(), false));
                    }
                    let frame = read.last_mut().expect("a frame begins before it goes on");
                    part.unmask_into(&mut frame.2);
                    frame.3 = part.ends;
                }
            }
        }
    }
    (read, covered, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let (whole, covered, error) = read([bytes]);
    let (cut, _, cut_error) = read(bytes.chunks(usize::from(size) + 1));
    assert_eq!(error, cut_error);
    match error {
        None => {
            assert_eq!(covered, bytes.len());
            assert_eq!(whole, cut);
        }
        // The head that is wrong may have begun in an earlier portion.
        Some(_) => assert!(cut.starts_with(&whole)),
    }
    let _ = bridged::websocket::frames::payload(bytes);
    let _ = bridged::websocket::frames::closing(bytes);
});
