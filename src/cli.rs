//! The command line: names, options and help texts.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use bridged::store::{Filter, Query};
use bridged::token::Role;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::clients::{self, Client};
use crate::env::shell::Shell;

/// An AI governance gateway: sees and records what AI clients do, and changes nothing.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// Log level (error, warn, info, debug, trace) or directives such as `proxyd=debug,info`.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Where configuration and data are.
#[derive(Clone, Debug, Args)]
pub(crate) struct Globals {
    /// Configuration file [default: causeway.toml in the working directory, if present].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of CA, database and token [default: the platform's data folder].
    #[arg(long, global = true, value_name = "DIR", env = "CAUSEWAY_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run proxy, bridge and metrics in one process (the default).
    Serve(ServeOptions),
    /// Try it: start on free ports with a simulated upstream and send one request of every API through it.
    Demo(DemoOptions),
    /// The certificate authority.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Gateway tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Run a client through the gateway: `causeway run -- codex exec "…"`. Starts a private gateway if none runs.
    Run(RunOptions),
    /// The gateway that `run` starts.
    #[command(hide = true)]
    PrivateGateway,
    /// Print the settings that lead a client through the gateway.
    Env(EnvOptions),
    /// Find out why a client does not work.
    Doctor(DoctorOptions),
    /// Check the configuration and list every problem.
    Check,
    /// List recorded sessions.
    Sessions(SessionsOptions),
    /// Show a session or an interception.
    Show(ShowOptions),
    /// Write interceptions as JSON Lines, JSON or CSV, the latest first.
    Export(ExportOptions),
    /// Prove that no record was changed.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Delete what is older than the configured retention allows, and free the space.
    Vacuum,
    /// Erase every text that was recorded of a user; names, dates and counts stay.
    Erase {
        /// The user.
        #[arg(long)]
        user: String,
    },
}

impl Default for Command {
    fn default() -> Command {
        Command::Serve(ServeOptions::default())
    }
}

#[derive(Debug, Default, Args)]
pub(crate) struct ServeOptions {
    /// Write a JSON file with the addresses once everything listens.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Exit after the sample requests.
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make the CA; existing files are never overwritten.
    Init,
    /// Write the certificate, never the key.
    Export {
        /// PEM or DER.
        #[arg(long, value_enum, default_value_t = Encoding::Pem)]
        format: Encoding,
        /// Where to [default: the standard output].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Describe the CA.
    Show,
    /// Explain how clients and operating systems come to trust it.
    Install,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Encoding {
    Pem,
    Der,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it is not shown again.
    Create {
        /// Whose it is.
        #[arg(long)]
        user: String,
        /// member, auditor or admin.
        #[arg(long, default_value_t = Role::Member)]
        role: Role,
        /// How long it is good, e.g. 30d [default: until revoked].
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
    },
    /// List tokens.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token by its id.
    Revoke {
        /// The id, as `token list` shows it.
        id: uuid::Uuid,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check every record against the chains.
    Verify {
        /// A checkpoint that was made earlier and kept elsewhere.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// Print the ends of the chains, to be signed or kept elsewhere.
    Checkpoint {
        /// Where to [default: the standard output].
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Tell which gateway is used and what the client's environment gets.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// The client with its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct EnvOptions {
    /// The client [default: variables that serve every client].
    #[arg(long, value_name = "NAME", value_parser = client())]
    pub(crate) client: Option<&'static Client>,
    /// What to write the settings for.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) shell: Shell,
    /// Give the client a base URL instead of a proxy and a CA.
    #[arg(long, requires = "client")]
    pub(crate) base_url: bool,
    /// Print the token itself, where else its file is read or TOKEN stands for it.
    #[arg(long)]
    pub(crate) show_token: bool,
    /// Address of the proxy, if it is not the configured one.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) proxy: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// The client that does not work: what it needs from this shell is checked too.
    #[arg(long, value_name = "NAME", value_parser = client())]
    pub(crate) client: Option<&'static Client>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads the name of a client.
fn client() -> impl TypedValueParser<Value = &'static Client> {
    let names = clients::all().map(|client| PossibleValue::new(client.name).aliases(client.aliases));
    PossibleValuesParser::new(names)
        .try_map(|name| clients::named(&name).ok_or_else(|| format!("the clients are {}", clients::names())))
}

/// Which records.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only this user's.
    #[arg(long)]
    pub(crate) user: Vec<String>,
    /// Only with this client.
    #[arg(long)]
    pub(crate) client: Vec<String>,
    /// Only with this provider.
    #[arg(long)]
    pub(crate) provider: Vec<String>,
    /// Only with this model.
    #[arg(long)]
    pub(crate) model: Vec<String>,
    /// Only with a prompt that has all these words; "words in a row", begin*.
    #[arg(short, long, value_name = "WORDS", value_parser = Query::parse)]
    pub(crate) query: Option<Query>,
}

impl From<Which> for Filter {
    fn from(which: Which) -> Filter {
        Filter {
            user: which.user,
            client: which.client,
            provider: which.provider,
            model: which.model,
            query: which.query,
            ..Filter::default()
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SessionsOptions {
    /// Print JSON as the API does.
    #[arg(long)]
    pub(crate) json: bool,
    /// Most sessions to list.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// Begun at or after this date (2026-11-22, 2026-11-22T08:30:00Z) or this long ago (36h, 7d).
    #[arg(long, value_name = "DATE|SPAN")]
    pub(crate) since: Option<String>,
    /// Begun before this date, or this long ago.
    #[arg(long, value_name = "DATE|SPAN")]
    pub(crate) until: Option<String>,
    /// The form.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Form,
    /// Go on with what ends later, until interrupted. All that has ended comes in the order in which it ended.
    #[arg(long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Only of this session.
    #[arg(long)]
    pub(crate) session: Vec<String>,
    /// Only in this state: in_flight, completed, failed, refused or aborted.
    #[arg(long)]
    pub(crate) status: Vec<String>,
}

/// A form of export.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Form {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// One JSON list.
    Json,
    /// A table.
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct ShowOptions {
    /// The id of a session or an interception.
    pub(crate) id: String,
    /// Print JSON as the API does.
    #[arg(long)]
    pub(crate) json: bool,
}
