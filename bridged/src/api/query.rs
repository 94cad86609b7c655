//! The query string of a list: filters, each of which may repeat, `limit` and `cursor`.

use super::problem::Problem;
use crate::clock::Micros;
use crate::store::{Cursor, Filter, Page, Status};

/// Rows on a page when nothing is said.
pub(super) const DEFAULT_LIMIT: u32 = 50;
/// Most rows on a page.
pub(super) const MOST_LIMIT: u32 = 1_000;
/// Most values of one query string.
const MOST_VALUES: usize = 200;

/// Reads a query string.
pub(super) fn parse(query: Option<&str>) -> Result<(Filter, Page), Problem> {
    let mut filter = Filter::default();
    let mut page = Page {
        cursor: None,
        limit: DEFAULT_LIMIT,
    };
    for (count, (name, value)) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()).enumerate() {
        if count >= MOST_VALUES {
            return Err(Problem::parameter(&name, "there are too many parameters"));
        }
        let value = value.into_owned();
        match &*name {
            "user" => filter.user.push(value),
            "client" => filter.client.push(value),
            "provider" => filter.provider.push(value),
            "model" => filter.model.push(value),
            "session" => filter.session.push(value),
            "status" => filter.status.push(status(&value)?),
            "after" => filter.after = Some(date("after", &value)?),
            "before" => filter.before = Some(date("before", &value)?),
            "limit" => page.limit = limit(&value)?,
            "cursor" => page.cursor = Some(cursor(&value)?),
            _ => return Err(Problem::parameter(&name, "this parameter is not known")),
        }
    }
    Ok((filter, page))
}

/// Takes parameters that are no filters out of a query string; returns their values and what is left. Each may stand
/// there once.
pub(super) fn take<const N: usize>(
    query: Option<&str>,
    names: [&str; N],
) -> Result<([Option<String>; N], String), Problem> {
    let mut taken = [const { None }; N];
    let mut rest = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let mut slots = names.iter().zip(&mut taken);
        match slots.find(|(own, _)| **own == name) {
            None => drop(rest.append_pair(&name, &value)),
            Some((_, slot @ None)) => *slot = Some(value.into_owned()),
            Some((own, Some(_))) => return Err(Problem::parameter(own, "stands there twice")),
        }
    }
    Ok((taken, rest.finish()))
}

/// Refuses a parameter that has no meaning here.
pub(super) fn refuse(name: &str, value: Option<&String>) -> Result<(), Problem> {
    match value {
        None => Ok(()),
        Some(_) => Err(Problem::parameter(name, "this parameter has no meaning here")),
    }
}

fn status(value: &str) -> Result<Status, Problem> {
    let wanted = "one of in_flight, completed, failed, refused, aborted";
    Status::parse(value).ok_or_else(|| Problem::parameter("status", wanted))
}

fn date(field: &str, value: &str) -> Result<Micros, Problem> {
    Micros::parse(value)
        .ok_or_else(|| Problem::parameter(field, "a date as in RFC 3339: 2026-11-22T08:30:00Z"))
}

fn limit(value: &str) -> Result<u32, Problem> {
    let limit = value
        .parse()
        .ok()
        .filter(|limit| (1..=MOST_LIMIT).contains(limit));
    limit.ok_or_else(|| Problem::parameter("limit", format!("a whole number from 1 to {MOST_LIMIT}")))
}

fn cursor(value: &str) -> Result<Cursor, Problem> {
    Cursor::parse(value).ok_or_else(|| Problem::parameter("cursor", "the `next` of an earlier page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_ones_own_are_taken_out_once() {
        let (taken, rest) = take(Some("user=a%26b&format=csv&x=1"), ["format", "limit"]).unwrap();
        assert_eq!(taken, [Some("csv".to_owned()), None]);
        assert_eq!(rest, "user=a%26b&x=1");
        assert!(take(Some("format=a&format=b"), ["format"]).is_err());
    }

    #[test]
    fn filters_repeat_and_mistakes_are_named() {
        let (filter, page) = parse(Some("user=a&user=b&status=failed&limit=7&after=2026-11-22")).unwrap();
        assert_eq!(filter.user, ["a", "b"]);
        assert_eq!(filter.status.len(), 1);
        assert_eq!(page.limit, 7);
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("cursor=x", "cursor"),
            ("after=soon", "after"),
            ("status=odd", "status"),
            ("colour=red", "colour"),
        ] {
            let problem = serde_json::to_string(&parse(Some(query)).unwrap_err()).unwrap();
            assert!(problem.contains(&format!("\"field\":\"{field}\"")), "{problem}");
        }
    }
}
