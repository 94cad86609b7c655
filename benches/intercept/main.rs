//! What does interception with full recording cost over a direct TLS connection?
//!
//! Starts the real binary and a TLS upstream on loopback, then sends the same requests (2 KiB prompt) directly
//! and through CONNECT, interception, record and relay, blocking (1 KiB answer) and streamed (54 events), all on
//! this machine in one run. Then the same with a new connection for each request, and the memory of connections
//! that do nothing. Prints throughput, median latency, CPU time of the gateway per request and its memory. `cargo bench --bench
//! intercept`, with `-- idle` for the memory alone; every run is bounded by `SPAN`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench has no task tracker and reads the clock"
)]

mod gateway;
mod load;
mod upstream;

use std::time::Duration;

use gateway::Gateway;
use load::{Kind, Load, Route};
use upstream::{Shape, Upstream};

/// How long each measurement runs.
const SPAN: Duration = Duration::from_secs(4);
/// After this, intercepted HTTP/1.1 connections have been parked (2 s without a request).
const PARKED: Duration = Duration::from_millis(2_500);

fn main() {
    // `cargo test --benches` only checks that it builds and starts.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let span = if is_test { Duration::from_millis(50) } else { SPAN };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let upstream = Upstream::start().await;
        if !std::env::args().any(|argument| argument == "idle") {
            requests(&upstream, span).await;
            connections(&upstream, span).await;
        }
        let idle = if is_test { 10 } else { 2_000 };
        let rest = if is_test { Duration::ZERO } else { PARKED };
        idle_memory(&upstream, idle, rest).await;
    });
}

/// Keep-alive requests.
async fn requests(upstream: &Upstream, span: Duration) {
    println!(
        "{:<10} {:<12} {:>6} {:>10} {:>10} {:>12} {:>10} {:>8}",
        "durability", "reply", "conns", "direct/s", "gateway/s", "direct p50", "p50", "CPU/req"
    );
    for durability in ["strict", "relaxed"] {
        let gateway = Gateway::start(upstream, durability).await;
        for shape in [Shape::Blocking, Shape::Stream] {
            for connections in [1, 32] {
                let load = Load {
                    shape,
                    connections,
                    span,
                };
                let direct = load.run(&Route::direct(upstream)).await;
                let before = gateway.cpu();
                let through = load.run(&gateway.route()).await;
                let cpu = (gateway.cpu() - before).as_secs_f64() * 1e6 / through.requests as f64;
                println!(
                    "{durability:<10} {:<12} {connections:>6} {:>10.0} {:>10.0} {:>9.3} ms {:>7.3} ms {cpu:>5.0} µs",
                    shape.name(),
                    direct.rate(),
                    through.rate(),
                    direct.median_ms(),
                    through.median_ms(),
                );
            }
        }
        println!(
            "{durability:<10} memory {} MiB after {} interceptions",
            gateway.memory_mib(),
            gateway.recorded().await
        );
    }
}

/// A new connection (CONNECT and a full TLS handshake) for each request.
async fn connections(upstream: &Upstream, span: Duration) {
    let gateway = Gateway::start(upstream, "strict").await;
    println!(
        "\n{:<23} {:>6} {:>10} {:>10} {:>12} {:>10} {:>8}",
        "new connection each", "conns", "direct/s", "gateway/s", "direct p50", "p50", "CPU/conn"
    );
    for connections in [1, 32] {
        let load = Load {
            shape: Shape::Blocking,
            connections,
            span,
        };
        let direct = load.run_fresh(&Route::direct(upstream)).await;
        let before = gateway.cpu();
        let through = load.run_fresh(&gateway.route()).await;
        let cpu = (gateway.cpu() - before).as_secs_f64() * 1e6 / through.requests as f64;
        println!(
            "{:<23} {connections:>6} {:>10.0} {:>10.0} {:>9.3} ms {:>7.3} ms {cpu:>5.0} µs",
            "",
            direct.rate(),
            through.rate(),
            direct.median_ms(),
            through.median_ms(),
        );
    }
}

/// Memory of connections that do nothing: at once after a request, and once they are parked.
async fn idle_memory(upstream: &Upstream, count: usize, rest: Duration) {
    println!();
    for kind in [Kind::Http1, Kind::Http2, Kind::Tunnel] {
        let gateway = Gateway::start(upstream, "strict").await;
        let route = gateway.route();
        // What the first ones allocate is not each one's.
        let mut held = vec![route.hold(kind).await, route.hold(kind).await];
        tokio::time::sleep(rest).await;
        let before = gateway.memory_kib();
        for _ in 0..count {
            held.push(route.hold(kind).await);
        }
        let each = |now: u64| now.saturating_sub(before) as f64 / count as f64;
        let fresh = each(gateway.memory_kib());
        tokio::time::sleep(rest).await;
        let parked = each(gateway.memory_kib());
        println!(
            "{:<22} {parked:>5.1} KiB for each of {count} idle connections after {:.1} s ({fresh:.1} at once), {before} KiB without",
            kind.name(),
            rest.as_secs_f64(),
        );
        drop(held);
    }
}
