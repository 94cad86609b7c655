//! Under systemd: sockets that it passes are served in place of the configured addresses, and it hears how things
//! stand.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};

use tokio::net::{TcpStream, UnixDatagram};

use crate::cases::{self, CHAT};
use crate::client::{Ask, Http, exchange_raw, within};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

/// Becomes the program as systemd does: sockets from descriptor 3 on, and the process's own number.
const ACTIVATE: &str = r#"LISTEN_PID=$$ exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

/// Starts the program with two sockets that bear `names`.
fn activated(gateway: &Gateway, names: &str, sockets: [TcpListener; 2]) -> Command {
    let program = gateway.command();
    let [first, second] = sockets.map(|socket| Stdio::from(OwnedFd::from(socket)));
    let mut shell = Command::new("sh");
    shell.args(["-c", ACTIVATE, "sh"]).arg(program.get_program());
    shell.args(program.get_args()).env_clear();
    shell.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
    shell.current_dir(program.get_current_dir().unwrap());
    shell.stdin(first).stdout(second);
    shell
}

fn sockets(first: &str) -> ([TcpListener; 2], [SocketAddr; 2]) {
    let sockets = [first, "127.0.0.1:0"].map(|address| TcpListener::bind(address).unwrap());
    let addresses = [&sockets[0], &sockets[1]].map(|socket| socket.local_addr().unwrap());
    (sockets, addresses)
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_sockets_are_served_and_who_came_before_the_start_too() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let mut gateway = Gateway::configured(Settings::in_front_of(&fake));
    let (sockets, [bridge, proxy]) = sockets("127.0.0.1:0");
    let early = TcpStream::connect(bridge).await.unwrap();
    gateway
        .restart_by(activated(&gateway, "bridge:proxy", sockets))
        .await;
    assert_eq!((gateway.bridge(), gateway.proxy()), (bridge, proxy));

    let request = format!("GET /ca.pem HTTP/1.1\r\nhost: {bridge}\r\nconnection: close\r\n\r\n");
    let (head, body) = within("the early client", exchange_raw(early, request.into())).await;
    assert!(head.status == 200 && body.starts_with(b"-----BEGIN"), "{body:?}");
    let mut session = gateway.client().open(CHAT.host, Http::V2).await;
    let ask = Ask::post(CHAT.path, CHAT.request).header("authorization", "Bearer sk-user");
    assert_eq!(session.send(ask).await.status, 200);
    assert!(
        gateway.metrics().await.contains("causeway_"),
        "a port without a socket is opened"
    );
}

#[test]
fn sockets_that_are_not_certain_or_not_allowed_are_refused() {
    const LOCAL: &str = "127.0.0.1:0";
    for (names, first, wanted) in [
        ("causeway.socket:bridge", LOCAL, "FileDescriptorName=proxy"),
        ("proxy", LOCAL, "1 names for 2 sockets"),
        ("proxy:proxy", LOCAL, "`proxy` comes twice"),
        ("proxy-tls:proxy", LOCAL, "[proxy.tls] is missing"),
        ("proxy:bridge", "0.0.0.0:0", "proxy.tunnel: \"open\""),
    ] {
        let gateway = Gateway::configured(Settings::default().proxy("tunnel = \"open\""));
        let mut command = activated(&gateway, names, sockets(first).0);
        command.arg("serve").stderr(Stdio::piped());
        let ended: Output = command.spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{names}: {said}");
        assert!(said.contains(wanted), "{names}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_readiness_reloads_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let hears = async || {
        let mut message = [0; 256];
        let length = within("a message", systemd.recv(&mut message)).await.unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let socket = path.to_str().unwrap().to_owned();
    let mut gateway = Gateway::start(Settings::default().env("NOTIFY_SOCKET", socket)).await;
    assert_eq!(hears().await, "READY=1\n");
    gateway.hang_up();
    let reloading = hears().await;
    let since = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .expect(&reloading);
    assert!(since.trim().parse::<u64>().unwrap() > 0);
    assert_eq!(hears().await, "READY=1\n");
    gateway.terminate();
    assert_eq!(hears().await, "STOPPING=1\n");
    assert!(gateway.ended().await);
}
