//! `causeway demo`: a gateway on free ports with simulated providers, and one request of every API through it.
//!
//! The requests are real ones: CONNECT to the proxy port, TLS with a certificate of the demo's CA, HTTP. Only
//! the provider is not: replies are made inside the process, so that no account is needed.

mod client;
mod samples;

use bridged::store::InterceptionRow;
use uuid::Uuid;

use crate::cli::DemoOptions;
use crate::config;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::serve::{Signal, Signals};
use crate::table::Table;
use client::{Answer, Client};
use samples::{SAMPLES, Sample};

const CONFIG: &str = r#"
[proxy]
listen = "127.0.0.1:0"
[bridge]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[[provider]]
name = "openai"
kind = "simulated"
[[provider]]
name = "anthropic"
kind = "simulated"
"#;

pub(crate) async fn run(options: &DemoOptions) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("causeway-demo-").tempdir();
    let folder = folder.map_err(|error| Failure::because("no folder for the demo", error))?;
    let file = folder.path().join("causeway.toml");
    std::fs::write(&file, CONFIG).map_err(|error| Failure::because("no file for the demo", error))?;
    let config = config::read(Some(file), folder.path(), std::iter::empty())?;
    let mut signals = Signals::listen()?;
    let gateway = Gateway::start(config).await?;
    let outcome = present(&gateway).await;
    if outcome.is_ok() && !options.once {
        invite(&gateway);
        while signals.next().await == Signal::Reload {}
        signals.end_on_next();
    }
    gateway.stop().await;
    outcome
}

/// Sends every sample and prints what was recorded of it.
async fn present(gateway: &Gateway) -> Result<(), Failure> {
    let client = Client::new(gateway)?;
    println!("A demo gateway: simulated providers, everything else real.\n");
    println!(
        "  proxy  http://{}    bridge  http://{}\n",
        gateway.addresses.proxy, gateway.addresses.bridge
    );
    println!(
        "Each request: CONNECT to the proxy, TLS intercepted for the host, bridged, answered, recorded.\n"
    );
    let mut table = Table::new([
        "HOST",
        "API",
        "REPLY",
        "HTTP",
        "INTERCEPTED BY",
        "USER",
        "CLIENT",
        "PROVIDER",
        "MODEL",
        "TOKENS IN/OUT",
        "DURATION",
    ]);
    for sample in SAMPLES {
        let answer = client.send(&sample).await?;
        let row = recorded(gateway, answer.request_id).await?;
        check(&sample, &answer, &row)?;
        table.row(cells(&sample, &answer, &row));
    }
    print!("{table}");
    println!(
        "\nAll {} requests were intercepted, answered and recorded.",
        SAMPLES.len()
    );
    Ok(())
}

async fn recorded(gateway: &Gateway, request_id: Uuid) -> Result<InterceptionRow, Failure> {
    let found = gateway.app.store.interception(request_id, None).await;
    let found = found.map_err(|error| Failure::because("the record cannot be read", error))?;
    found.ok_or_else(|| Failure::new("the demo's request was not recorded"))
}

/// The demo fails when what it shows is not so.
fn check(sample: &Sample, answer: &Answer, row: &InterceptionRow) -> Result<(), Failure> {
    let tokens = row.usage.iter().all(|usage| usage.input > 0 && usage.output > 0) && !row.usage.is_empty();
    let expected = answer.status == 200
        && row.connect_id.is_some()
        && row.mode == "proxy"
        && row.api == sample.api
        && row.stream == sample.stream
        && row.outcome == Some("completed")
        && row.model.as_deref() == Some(sample.model)
        && tokens;
    if expected {
        return Ok(());
    }
    let record = serde_json::to_string_pretty(row).unwrap_or_default();
    Err(Failure::new(format!(
        "{} was answered {} and recorded wrongly:\n{record}",
        sample.api, answer.status
    )))
}

fn cells(sample: &Sample, answer: &Answer, row: &InterceptionRow) -> [String; 11] {
    let tokens = row
        .usage
        .first()
        .map(|usage| format!("{}/{}", usage.input, usage.output));
    [
        sample.host.to_owned(),
        row.api.to_owned(),
        if row.stream {
            format!("stream, {} frames", answer.frames)
        } else {
            "blocking".to_owned()
        },
        answer.protocol.to_owned(),
        answer.issuer.clone(),
        row.user.clone(),
        row.client.clone(),
        row.provider.clone(),
        row.model.clone().unwrap_or_default(),
        tokens.unwrap_or_default(),
        format!("{:.1} ms", row.duration_ms.unwrap_or_default()),
    ]
}

fn invite(gateway: &Gateway) {
    println!("\nThe demo goes on until Ctrl-C. Send your own request through it:\n");
    println!(
        "  curl -x \"http://x:$(cat '{}')@{}\" --cacert '{}' \\\n    https://api.openai.com/v1/chat/completions \\\n    \
         -d '{{\"model\":\"gpt-5.5\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n",
        gateway.token_file.display(),
        gateway.addresses.proxy,
        gateway.ca.certificate.display(),
    );
    println!(
        "  records  http://{}/api/v1/interceptions (Authorization: Bearer <token>)",
        gateway.addresses.bridge
    );
}
