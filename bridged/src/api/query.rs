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
    let mut page = Page { cursor: None, limit: DEFAULT_LIMIT };
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

fn status(value: &str) -> Result<Status, Problem> {
    let wanted = "one of in_flight, completed, failed, refused, aborted";
    Status::parse(value).ok_or_else(|| Problem::parameter("status", wanted))
}

fn date(field: &str, value: &str) -> Result<Micros, Problem> {
    Micros::parse(value).ok_or_else(|| Problem::parameter(field, "a date as in RFC 3339: 2026-11-22T08:30:00Z"))
}

fn limit(value: &str) -> Result<u32, Problem> {
    let limit = value.parse().ok().filter(|limit| (1..=MOST_LIMIT).contains(limit));
    limit.ok_or_else(|| Problem::parameter("limit", format!("a whole number from 1 to {MOST_LIMIT}")))
}

fn cursor(value: &str) -> Result<Cursor, Problem> {
    Cursor::parse(value).ok_or_else(|| Problem::parameter("cursor", "the `next` of an earlier page"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
