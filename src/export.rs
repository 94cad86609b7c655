//! `causeway export`: interceptions on the standard output, read straight from the store in constant memory.

use std::io::{self, Write as _};
use std::time::Duration;

use bridged::clock::{Clock, Micros};
use bridged::config::Span;
use bridged::export::Format;
use bridged::store::{Filter, InterceptionRow, Page, Position, SEARCH_PATIENCE, Status, Store, StoreError};
use tokio::task::spawn_blocking;

use crate::cli::{ExportOptions, Form, Globals};
use crate::failure::Failure;
use crate::records::{open, unreadable};
use crate::serve::{Signal, Signals};

/// Interceptions that are read at once.
const PAGE: u32 = 50;
/// How often a follower looks for more.
const LOOK: Duration = Duration::from_millis(300);

/// Why an export ends before its end.
enum Ended {
    /// The store cannot be read.
    Store(StoreError),
    /// Nobody takes what is written.
    Output(io::Error),
    /// Not all can be found.
    Incomplete,
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Ended {
        Ended::Store(error)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Output(error)
    }
}

pub(crate) async fn run(globals: &Globals, options: ExportOptions) -> Result<(), Failure> {
    let format = match options.format {
        Form::Jsonl => Format::Jsonl,
        Form::Json if options.follow => {
            return Err(Failure::usage(
                "--follow has no end, which a JSON list needs: use --format jsonl",
            ));
        }
        Form::Json => Format::Json,
        Form::Csv => Format::Csv,
    };
    let follow = options.follow;
    let filter = filter(options, Clock::system().micros())?;
    let store = open(globals).await?;
    let mut sheet = Sheet {
        format,
        is_first: true,
    };
    let outcome = if follow {
        let mut signals = Signals::listen()?;
        tokio::select! {
            outcome = sheet.follow(&store, filter) => outcome,
            () = interrupted(&mut signals) => Ok(()),
        }
    } else {
        sheet.write_all(&store, filter).await
    };
    match outcome {
        Ok(()) => Ok(()),
        Err(Ended::Store(error)) => Err(unreadable(error)),
        // The reader has seen enough.
        Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Ended::Incomplete) => Err(Failure::new(
            "the search index is being made, and an export by words would not be complete: try again later, with the gateway running",
        )),
        Err(Ended::Output(error)) => Err(Failure::because("the records cannot be written", error)),
    }
}

async fn interrupted(signals: &mut Signals) {
    while signals.next().await != Signal::End {}
}

fn filter(options: ExportOptions, now: Micros) -> Result<Filter, Failure> {
    let date = |text: Option<String>, option: &str| match text {
        None => Ok(None),
        Some(text) => moment(&text, now).map(Some).ok_or_else(|| {
            Failure::usage(format!(
                "{option}: `{text}` is neither a date such as 2026-11-22T08:30:00Z nor a span such as 7d"
            ))
        }),
    };
    let state = |text: &String| {
        Status::parse(text).ok_or_else(|| {
            Failure::usage(format!(
                "--status: `{text}` is none of in_flight, completed, failed, refused, aborted"
            ))
        })
    };
    Ok(Filter {
        after: date(options.since, "--since")?,
        before: date(options.until, "--until")?,
        status: options.status.iter().map(state).collect::<Result<_, _>>()?,
        session: options.session,
        ..options.which.into()
    })
}

/// A date, or one that is so long ago.
fn moment(text: &str, now: Micros) -> Option<Micros> {
    let ago = |span: Span| {
        let ago = i64::try_from(span.duration().as_micros()).unwrap_or(i64::MAX);
        Micros(now.0.saturating_sub(ago))
    };
    Micros::parse(text).or_else(|| Span::parse(text).map(ago))
}

/// A document on its way out.
struct Sheet {
    format: Format,
    is_first: bool,
}

impl Sheet {
    /// Writes all that is there, the latest first.
    async fn write_all(&mut self, store: &Store, filter: Filter) -> Result<(), Ended> {
        if filter.query.is_some() && !store.is_searchable(SEARCH_PATIENCE).await? {
            return Err(Ended::Incomplete);
        }
        write(self.format.begin()).await?;
        let mut cursor = None;
        loop {
            let page = Page { cursor, limit: PAGE };
            let (rows, next) = store.interceptions(filter.clone(), page).await?;
            self.rows(&rows).await?;
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        write(self.format.end().to_owned()).await
    }

    /// Writes all that has ended, and goes on with what ends. A store that is away is waited for.
    async fn follow(&mut self, store: &Store, filter: Filter) -> Result<(), Ended> {
        write(self.format.begin()).await?;
        let (mut position, mut is_away) = (Position::default(), false);
        loop {
            let portion = match store.feed(position.clone(), filter.clone(), PAGE).await {
                Err(error) if error.is_passing() => {
                    if !std::mem::replace(&mut is_away, true) {
                        let words = "the records cannot be read now; trying again";
                        Failure::because(words, error).report();
                    }
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                read => read?,
            };
            is_away = false;
            self.rows(portion.told.iter().map(|told| &told.row)).await?;
            position = portion.position;
            if !portion.more {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    async fn rows<'r>(&mut self, rows: impl IntoIterator<Item = &'r InterceptionRow>) -> Result<(), Ended> {
        let text = self.format.rows(rows, self.is_first);
        self.is_first &= text.is_empty();
        write(text).await
    }
}

/// Writes to the standard output, on a thread that may wait: a signal must not.
async fn write(text: String) -> Result<(), Ended> {
    let written = spawn_blocking(move || {
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes())?;
        output.flush()
    });
    let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_or_spans_back() {
        let now = Micros::parse("2026-11-22T12:00:00Z").unwrap();
        for (text, want) in [
            ("2026-11-20", Some("2026-11-20T00:00:00.000000Z")),
            ("36h", Some("2026-11-21T00:00:00.000000Z")),
            ("2026-11-22T08:30:00+02:00", Some("2026-11-22T06:30:00.000000Z")),
            ("soon", None),
        ] {
            let found = moment(text, now).map(Micros::rfc3339);
            assert_eq!(found.as_deref(), want, "{text}");
        }
    }
}
