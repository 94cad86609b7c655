//! What may stand in a query string: each parameter once, with its meaning for readers and for the program.
//!
//! A route names the parameters that it takes; all others are refused by name. Filters may repeat: values of one
//! field are alternatives, fields are all to hold.

use utoipa::openapi::schema::{KnownFormat, SchemaFormat};
use utoipa::openapi::{ObjectBuilder, Schema, Type};

use super::problem::Problem;
use crate::clock::Micros;
use crate::export::Format;
use crate::identity::Identity;
use crate::store::{Bookmark, Cursor, Dimension, Filter, Page, Query, Status};

/// Rows on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 50;
/// Most rows on a page.
const MOST_LIMIT: u32 = 1_000;
/// Most values of one query string.
const MOST_VALUES: usize = 200;

/// What a caller asks for, within what the caller may see.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Who asks.
    pub(super) caller: Identity,
    /// Which records. A member's reaches the member's own alone: `access` sees to that.
    pub(super) filter: Filter,
    /// What usage is told apart by.
    pub(super) by: Vec<Dimension>,
    /// The form of the answer, where the query says so.
    pub(super) form: Option<Form>,
    /// Rows on the page, where the query says so.
    pub(super) limit: Option<u32>,
    /// The form of an export, where the query says so.
    pub(super) export: Option<Format>,
    /// Where an event stream goes on.
    pub(super) position: Option<String>,
    cursor: Option<String>,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Csv,
}

/// One parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// What it does, for the API's document.
    pub(super) about: &'static str,
    pub(super) values: Values,
    /// Whether it may stand there more than once.
    pub(super) repeats: bool,
    /// Takes a value, or says what it should have been.
    take: fn(&mut Asked, String) -> Result<(), String>,
}

/// What a parameter's values look like.
#[derive(Clone, Copy)]
pub(super) enum Values {
    Text,
    Date,
    Limit,
    OneOf(&'static [&'static str]),
}

impl Values {
    pub(super) fn schema(self) -> Schema {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let built = match self {
            Values::Text => text,
            Values::Date => text.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))),
            Values::OneOf(words) => text.enum_values(Some(words.iter().copied())),
            Values::Limit => ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .maximum(Some(MOST_LIMIT))
                .default(Some(DEFAULT_LIMIT.into())),
        };
        built.into()
    }
}

const fn filter(
    name: &'static str,
    about: &'static str,
    take: fn(&mut Asked, String) -> Result<(), String>,
) -> Parameter {
    Parameter {
        name,
        about,
        values: Values::Text,
        repeats: true,
        take,
    }
}

const USER: Parameter = filter("user", "Only of this user.", |asked, value| {
    asked.filter.user.push(value);
    Ok(())
});
const CLIENT: Parameter = filter("client", "Only from this client.", |asked, value| {
    asked.filter.client.push(value);
    Ok(())
});
const PROVIDER: Parameter = filter("provider", "Only of this provider instance.", |asked, value| {
    asked.filter.provider.push(value);
    Ok(())
});
const MODEL: Parameter = filter("model", "Only where this model was asked for.", |asked, value| {
    asked.filter.model.push(value);
    Ok(())
});
const SESSION: Parameter = filter("session", "Only of the session with this id.", |asked, value| {
    asked.filter.session.push(value);
    Ok(())
});
const QUERY: Parameter = filter(
    "q",
    "Only with a prompt that has all these words; `\"words in a row\"`, `begin*`. Where it repeats, all of it holds. \
     Sessions then come by their latest such prompt, and all other filters are about its request. A page may be \
     short although another follows.",
    |asked, value| {
        let query = Query::parse(&value).map_err(|error| error.to_string())?;
        let query = match asked.filter.query.take() {
            Some(before) => before.and(query).map_err(|error| error.to_string())?,
            None => query,
        };
        asked.filter.query = Some(query);
        Ok(())
    },
);
const STATUS: Parameter = Parameter {
    values: Values::OneOf(&STATES),
    ..filter("status", "Only in this state.", |asked, value| {
        let status = Status::parse(&value).ok_or_else(|| format!("one of {}", STATES.join(", ")))?;
        asked.filter.status.push(status);
        Ok(())
    })
};
const STATES: [&str; 5] = ["in_flight", "completed", "failed", "refused", "aborted"];
const AFTER: Parameter = Parameter {
    values: Values::Date,
    ..filter(
        "after",
        "Only begun at or after this date, RFC 3339 or `2026-11-22` (sessions: their latest request; counts: whole days).",
        |asked, value| {
            let at = date(&value)?;
            asked.filter.after = Some(asked.filter.after.map_or(at, |other| other.min(at)));
            Ok(())
        },
    )
};
const BEFORE: Parameter = Parameter {
    values: Values::Date,
    ..filter(
        "before",
        "Only begun before this date, RFC 3339 or `2026-11-22` (sessions: their latest request; counts: whole days).",
        |asked, value| {
            let at = date(&value)?;
            asked.filter.before = Some(asked.filter.before.map_or(at, |other| other.max(at)));
            Ok(())
        },
    )
};
const GROUP: Parameter = Parameter {
    values: Values::OneOf(&["user", "client", "provider", "model"]),
    ..filter("group", "Tells days apart by this, too.", |asked, value| {
        let wanted = || "one of user, client, provider, model".to_owned();
        let dimension = Dimension::parse(&value).ok_or_else(wanted)?;
        if !asked.by.contains(&dimension) {
            asked.by.push(dimension);
        }
        Ok(())
    })
};
const FORMAT: Parameter = Parameter {
    values: Values::OneOf(&["json", "csv"]),
    repeats: false,
    ..filter(
        "format",
        "The form of the answer; it goes before the header `Accept`.",
        |asked, value| {
            asked.form = Some(match &*value {
                "json" => Form::Json,
                "csv" => Form::Csv,
                _ => return Err("one of json, csv".to_owned()),
            });
            Ok(())
        },
    )
};
const EXPORT_FORMAT: Parameter = Parameter {
    values: Values::OneOf(&["jsonl", "json", "csv"]),
    repeats: false,
    ..filter(
        "format",
        "The form of the export; `jsonl` where nothing is said.",
        |asked, value| {
            let format = Format::parse(&value).ok_or("one of jsonl, json, csv")?;
            asked.export = Some(format);
            Ok(())
        },
    )
};
const POSITION: Parameter = Parameter {
    repeats: false,
    ..filter(
        "after",
        "Goes on after the event with this `id`; the header `Last-Event-ID` says the same.",
        |asked, value| {
            asked.position = Some(value);
            Ok(())
        },
    )
};
const LIMIT: Parameter = Parameter {
    values: Values::Limit,
    repeats: false,
    ..filter("limit", "Most items of the page.", |asked, value| {
        let fits = |limit: &u32| (1..=MOST_LIMIT).contains(limit);
        let limit = value.parse().ok().filter(fits);
        asked.limit = Some(limit.ok_or_else(|| format!("a whole number from 1 to {MOST_LIMIT}"))?);
        Ok(())
    })
};
const CURSOR: Parameter = Parameter {
    repeats: false,
    ..filter(
        "cursor",
        "Where the page begins: the `next` of the page before.",
        |asked, value| {
            asked.cursor = Some(value);
            Ok(())
        },
    )
};

pub(super) const NONE: &[&Parameter] = &[];
pub(super) const INTERCEPTIONS: &[&Parameter] = &[
    &USER, &CLIENT, &PROVIDER, &MODEL, &SESSION, &STATUS, &AFTER, &BEFORE, &QUERY, &LIMIT, &CURSOR,
];
pub(super) const SESSIONS: &[&Parameter] = &[
    &USER, &CLIENT, &PROVIDER, &MODEL, &SESSION, &AFTER, &BEFORE, &QUERY, &LIMIT, &CURSOR,
];
pub(super) const EVENTS: &[&Parameter] = &[
    &USER, &CLIENT, &PROVIDER, &MODEL, &SESSION, &STATUS, &QUERY, &POSITION,
];
pub(super) const EXPORT: &[&Parameter] = &[
    &USER,
    &CLIENT,
    &PROVIDER,
    &MODEL,
    &SESSION,
    &STATUS,
    &AFTER,
    &BEFORE,
    &QUERY,
    &EXPORT_FORMAT,
];
pub(super) const ONE_SESSION: &[&Parameter] = &[&USER];
pub(super) const USAGE: &[&Parameter] = &[
    &GROUP, &USER, &CLIENT, &PROVIDER, &MODEL, &AFTER, &BEFORE, &LIMIT, &CURSOR, &FORMAT,
];
pub(super) const SEATS: &[&Parameter] = &[
    &USER, &CLIENT, &PROVIDER, &MODEL, &AFTER, &BEFORE, &LIMIT, &CURSOR, &FORMAT,
];
pub(super) const FACETS: &[&Parameter] = &[
    &USER, &CLIENT, &PROVIDER, &MODEL, &AFTER, &BEFORE, &LIMIT, &CURSOR,
];
pub(super) const TOKENS: &[&Parameter] = &[&USER, &LIMIT, &CURSOR];

fn date(value: &str) -> Result<Micros, String> {
    let wanted = "a date as in RFC 3339: 2026-11-22T08:30:00Z (in a URL, + is %2B)";
    Micros::parse(value).ok_or_else(|| wanted.to_owned())
}

impl Asked {
    /// Reads the query string of `caller`, who is not yet kept to what the caller may see.
    pub(super) fn parse(
        caller: Identity,
        query: Option<&str>,
        takes: &[&Parameter],
    ) -> Result<Asked, Problem> {
        let mut asked = Asked {
            caller,
            filter: Filter::default(),
            by: Vec::new(),
            form: None,
            limit: None,
            export: None,
            position: None,
            cursor: None,
        };
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if seen.len() >= MOST_VALUES {
                return Err(Problem::parameter(&name, "there are too many parameters"));
            }
            let parameter = takes.iter().find(|parameter| parameter.name == name);
            let parameter = parameter.ok_or_else(|| Problem::unknown(&name, &names(takes)))?;
            if !parameter.repeats && seen.contains(&parameter.name) {
                return Err(Problem::parameter(&name, "may be given once only"));
            }
            seen.push(parameter.name);
            if value.contains('\0') {
                return Err(Problem::parameter(&name, "a text without NUL"));
            }
            (parameter.take)(&mut asked, value.into_owned())
                .map_err(|wanted| Problem::parameter(&name, wanted))?;
        }
        // The order in which they are asked for means nothing.
        asked.by.sort_unstable();
        match (asked.filter.after, asked.filter.before) {
            (Some(after), Some(before)) if before < after => Err(Problem::parameter(
                "before",
                "a date that is not earlier than `after`",
            )),
            _ => Ok(asked),
        }
    }

    /// The page asked for, whose cursor `parse` reads.
    pub(super) fn page_by<C>(&self, parse: impl Fn(&str) -> Option<C>) -> Result<Page<C>, Problem> {
        let read = |text: &String| {
            parse(text)
                .ok_or_else(|| Problem::parameter("cursor", "the `next` of an earlier page of this list"))
        };
        Ok(Page {
            cursor: self.cursor.as_ref().map(read).transpose()?,
            limit: self.limit.unwrap_or(DEFAULT_LIMIT),
        })
    }

    /// The page of records asked for.
    pub(super) fn page(&self) -> Result<Page, Problem> {
        self.page_by(Cursor::parse)
    }

    /// The page of counts asked for, whose lines have so many words.
    pub(super) fn page_of_counts(&self, words: usize) -> Result<Page<Bookmark>, Problem> {
        self.page_by(|text| Bookmark::parse(text, words))
    }

    /// The rows on the largest page.
    pub(super) const fn most() -> u32 {
        MOST_LIMIT
    }
}

fn names(takes: &[&Parameter]) -> Vec<&'static str> {
    takes.iter().map(|parameter| parameter.name).collect()
}
