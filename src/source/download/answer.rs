//! What a server's answer to a request for some bytes means: status and headers to a verdict. Pure; RFC 9110's sections 13 to 15 are its source.

use std::ops::Range;

/// What a request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The bytes from `start` up to, not including, `end`.
    Range(Range<u64>),
    /// The whole file.
    Whole,
}

/// Headers of an answer, as far as the browser lets this site see them: of another origin's answers that is only `Content-Length` and
/// `Last-Modified`, unless its server exposes more.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Headers {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Retry-After`, in milliseconds from now.
    pub retry_after_ms: Option<f64>,
    /// `X-Linked-Etag`: Hugging Face's word for a file's SHA-256.
    pub linked_etag: Option<String>,
}

impl Headers {
    /// What tells one version of a file from another: the ETag, else the date.
    pub fn version(&self) -> Option<&str> {
        self.etag.as_deref().or(self.last_modified.as_deref())
    }
}

/// Whether this is an ETag that promises the same bytes, which `If-Range` may carry: neither a weak one nor a date.
pub fn is_strong(etag: &str) -> bool {
    etag.starts_with('"')
}

/// What an answer is good for.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The body is these bytes of a file of `total`, if that could be seen.
    Part {
        /// From, and up to but not including.
        range: Range<u64>,
        /// Bytes of the whole file.
        total: Option<u64>,
    },
    /// The body is the file from its first byte on.
    Whole {
        /// Bytes of the whole file.
        total: Option<u64>,
    },
    /// The file has no bytes where the range begins.
    Beyond {
        /// Bytes of the whole file.
        total: Option<u64>,
    },
    /// The server has too much to do, for the given time if it says so.
    Busy {
        /// From now.
        after_ms: Option<f64>,
    },
    /// It will not work now, but may soon.
    Later,
    /// The server refuses: the file is not there, or not for us.
    Refused,
    /// The answer is no use, and another one would be the same.
    Bad(String),
}

/// Judges the answer with `status` and `headers` to what was asked.
pub fn judge(ask: &Ask, status: u16, headers: &Headers) -> Verdict {
    match status {
        200 | 206 => {}
        416 => {
            let total = headers
                .content_range
                .as_deref()
                .and_then(|text| parse_content_range(text)?.total);
            return Verdict::Beyond { total };
        }
        429 | 503 => {
            return Verdict::Busy {
                after_ms: headers.retry_after_ms,
            };
        }
        408 | 425 | 500..=599 => return Verdict::Later,
        _ => return Verdict::Refused,
    }
    // Browsers ask for ranges with `Accept-Encoding: identity`. A host that compresses all the same counts its ranges in other bytes.
    if let Some(encoding) = headers.content_encoding.as_deref()
        && !encoding.trim().is_empty()
        && !encoding.trim().eq_ignore_ascii_case("identity")
    {
        return Verdict::Bad(format!(
            "the server sends it compressed ({}), which it must not do for ranges of a file",
            encoding.trim()
        ));
    }
    if status == 200 {
        return Verdict::Whole {
            total: headers.content_length,
        };
    }
    let Ask::Range(asked) = ask else {
        return Verdict::Bad("the server answers with a part where the whole file was asked for".into());
    };
    let said = match headers.content_range.as_deref() {
        None => ContentRange {
            range: None,
            total: None,
        }, // it may be there, but hidden from us
        Some(text) => match parse_content_range(text) {
            Some(said) => said,
            None => return Verdict::Bad(format!("the server's Content-Range cannot be understood: {text}")),
        },
    };
    let end = said.total.unwrap_or(u64::MAX).min(asked.end);
    let range = said.range.clone().unwrap_or_else(|| match headers.content_length {
        // The last part of a file is shorter than what was asked for.
        Some(n) if said.total.is_none() => asked.start..asked.end.min(asked.start.saturating_add(n)),
        _ => asked.start..end,
    });
    if range.start != asked.start || range.end > asked.end || range.is_empty() {
        return Verdict::Bad(format!(
            "the server was asked for the bytes {} to {} and sends {} to {}",
            asked.start,
            asked.end - 1,
            range.start,
            range.end.saturating_sub(1)
        ));
    }
    if let Some(n) = headers.content_length
        && n != range.end - range.start
    {
        return Verdict::Bad(format!(
            "the server announces {n} bytes for a range of {}",
            range.end - range.start
        ));
    }
    // Headers may be hidden, but a part that is shorter than what was asked for ends where the file does.
    let ends = said.range.is_none() && range.end < asked.end;
    Verdict::Part {
        total: said.total.or(ends.then_some(range.end)),
        range,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    range: Option<Range<u64>>,
    total: Option<u64>,
}

/// `bytes 0-9/100`, `bytes 0-9/*`, `bytes */100`.
fn parse_content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let total = match total.trim() {
        "*" => None,
        n => Some(n.parse::<u64>().ok()?),
    };
    let range = match range.trim() {
        "*" => None,
        range => {
            let (first, last) = range.split_once('-')?;
            let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
            let end = last.checked_add(1)?;
            if first >= end || total.is_some_and(|total| end > total) {
                return None;
            }
            Some(first..end)
        }
    };
    (range.is_some() || total.is_some()).then_some(ContentRange { range, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(content_range: Option<&str>, content_length: Option<u64>) -> Verdict {
        let headers = Headers {
            content_range: content_range.map(Into::into),
            content_length,
            ..Headers::default()
        };
        judge(&Ask::Range(10..20), 206, &headers)
    }

    fn is_bad(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Bad(_))
    }

    #[test]
    fn a_part_is_what_was_asked_for_or_its_beginning() {
        let expect = |range, total| Verdict::Part { range, total };
        assert_eq!(part(Some("bytes 10-19/100"), Some(10)), expect(10..20, Some(100)));
        assert_eq!(part(Some("bytes 10-14/15"), Some(5)), expect(10..15, Some(15)));
        assert_eq!(part(Some("bytes 10-19/*"), None), expect(10..20, None));
        assert_eq!(part(None, Some(10)), expect(10..20, None), "hidden");
        assert_eq!(part(None, Some(3)), expect(10..13, Some(13)), "hidden, and the file's end");
        assert_eq!(part(None, None), expect(10..20, None));
        for wrong in [
            "bytes 0-9/100",
            "bytes 11-19/100",
            "bytes 10-20/100",
            "bytes 19-10/100",
            "bytes 10-19/15",
            "bytes 10-18446744073709551615/*",
            "items 10-19/100",
            "bytes 10-19",
            "bytes -/100",
            "",
        ] {
            assert!(is_bad(&part(Some(wrong), None)), "{wrong}");
        }
        assert!(
            is_bad(&part(Some("bytes 10-19/100"), Some(9))),
            "a length that contradicts the range"
        );
        assert!(
            is_bad(&judge(&Ask::Whole, 206, &Headers::default())),
            "nobody asked for a part"
        );
    }

    #[test]
    fn statuses_say_whether_to_try_again() {
        let ask = Ask::Range(10..20);
        let of = |status| judge(&ask, status, &Headers::default());
        assert_eq!(of(200), Verdict::Whole { total: None });
        for status in [400, 401, 403, 404, 410, 451, 204, 304] {
            assert_eq!(of(status), Verdict::Refused, "{status}");
        }
        for status in [408, 425, 500, 502, 504] {
            assert_eq!(of(status), Verdict::Later, "{status}");
        }
        let busy = Headers {
            retry_after_ms: Some(3000.0),
            ..Headers::default()
        };
        for status in [429, 503] {
            assert_eq!(judge(&ask, status, &busy), Verdict::Busy { after_ms: Some(3000.0) });
        }
        let beyond = Headers {
            content_range: Some("bytes */7".into()),
            ..Headers::default()
        };
        assert_eq!(judge(&ask, 416, &beyond), Verdict::Beyond { total: Some(7) });
        assert_eq!(of(416), Verdict::Beyond { total: None });
    }

    #[test]
    fn what_is_compressed_is_refused() {
        for (encoding, bad) in [("gzip", true), (" BR ", true), ("identity", false), ("", false)] {
            let headers = Headers {
                content_encoding: Some(encoding.into()),
                ..Headers::default()
            };
            assert_eq!(is_bad(&judge(&Ask::Whole, 200, &headers)), bad, "{encoding}");
            assert_eq!(is_bad(&judge(&Ask::Range(0..1), 206, &headers)), bad, "{encoding}");
        }
    }

    #[test]
    fn versions_are_told_apart_by_etag_or_date() {
        let headers = |etag: Option<&str>, date: Option<&str>| Headers {
            etag: etag.map(Into::into),
            last_modified: date.map(Into::into),
            ..Headers::default()
        };
        assert_eq!(headers(Some("W/\"a\""), Some("Mon")).version(), Some("W/\"a\""));
        assert_eq!(headers(None, Some("Mon")).version(), Some("Mon"));
        assert_eq!(headers(None, None).version(), None);
        assert_eq!(["\"a\"", "W/\"a\"", "Mon"].map(is_strong), [true, false, false]);
    }
}
