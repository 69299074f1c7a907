//! The addresses of one file: which to ask next, and which to ask no more. Pure.
//!
//! Bytes of two addresses are put together only if a digest vouches for the whole: without one, the address that gave the first chunk gives
//! all of them.

use super::answer::{Headers, is_strong};
use crate::Error;

/// One address.
#[derive(Debug)]
struct Mirror {
    url: String,
    /// Where it led by redirects; asked directly until that expires.
    resolved: Option<String>,
    /// It has given answers itself. Until then it may be a redirect: `If-Range` would go along to the other origin, which may not allow it.
    direct: bool,
    /// Bytes of it are among those that are here.
    gave: bool,
    /// ETag, else date, of the version that is being downloaded from here.
    version: Option<String>,
    /// Why it is asked no more.
    dead: Option<Error>,
    /// Failures in a row.
    strikes: u32,
    /// Redirects in a row that led to a refusal.
    expired: u32,
}

/// All addresses of a file.
#[derive(Debug)]
pub struct Mirrors {
    list: Vec<Mirror>,
    current: usize,
    /// Bytes of the current one have been accepted, and no digest would notice a mix.
    pinned: bool,
    has_digest: bool,
}

/// Whom a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Index of the mirror.
    pub mirror: usize,
    /// The address.
    pub url: String,
    /// It is where a redirect led, not the mirror's own address.
    pub resolved: bool,
    /// The strong ETag of the version that is wanted.
    pub strong_etag: Option<String>,
}

/// Failures in a row after which another mirror's turn comes.
const STRIKES: u32 = 3;
/// Redirects in a row that may expire at once.
const MOST_EXPIRED: u32 = 4;

impl Mirrors {
    /// `urls` are not empty; the first is asked first.
    pub fn new(urls: &[String], has_digest: bool) -> Self {
        let list = urls
            .iter()
            .map(|url| Mirror {
                url: url.clone(),
                resolved: None,
                direct: false,
                gave: false,
                version: None,
                dead: None,
                strikes: 0,
                expired: 0,
            })
            .collect();
        Self {
            list,
            current: 0,
            pinned: false,
            has_digest,
        }
    }

    /// Goes on with what was stored from `url`, whose ETag was `etag`. `false` if that address is not among these, and no digest allows for another.
    pub fn resume(&mut self, url: &str, etag: Option<&str>) -> bool {
        match self.list.iter().position(|mirror| mirror.url == url) {
            Some(i) => {
                self.current = i;
                self.pinned = !self.has_digest;
                self.list[i].version = etag.map(Into::into);
                self.list[i].gave = true;
                true
            }
            None => self.has_digest,
        }
    }

    /// Whom to ask next.
    pub fn target(&self) -> Target {
        let mirror = &self.list[self.current];
        Target {
            mirror: self.current,
            url: mirror.resolved.as_ref().unwrap_or(&mirror.url).clone(),
            resolved: mirror.resolved.is_some(),
            strong_etag: mirror.version.clone().filter(|version| mirror.direct && is_strong(version)),
        }
    }

    /// The address and its version that are written down for resuming.
    pub fn provenance(&self) -> (&str, Option<&str>) {
        let mirror = &self.list[self.current];
        (&mirror.url, mirror.version.as_deref())
    }

    /// A digest turned up: any mirror will do from now on.
    pub fn vouched(&mut self) {
        self.has_digest = true;
        self.pinned = false;
    }

    /// `target` answered, or whoever it was `redirected_to`.
    pub fn answered(&mut self, target: &Target, redirected_to: Option<&str>) {
        let mirror = &mut self.list[target.mirror];
        match redirected_to.filter(|&url| url != mirror.url) {
            Some(url) => (mirror.resolved, mirror.direct) = (Some(url.to_owned()), false),
            None => mirror.direct |= !target.resolved,
        }
    }

    /// An answer's version: `false` if it is another one than before.
    pub fn is_same_version(&mut self, mirror: usize, headers: &Headers) -> bool {
        let mirror = &mut self.list[mirror];
        match (mirror.version.as_deref(), headers.version()) {
            // A weak ETag counts too: where its server sees a mere change of form, a model has the same bytes or is another file.
            (Some(known), Some(found)) => known.trim_start_matches("W/") == found.trim_start_matches("W/"),
            (None, Some(found)) => {
                mirror.version = Some(found.to_owned());
                true
            }
            (_, None) => true, // hidden from us, or none: lengths and digests have to do
        }
    }

    /// Bytes came from `mirror`.
    pub fn progress(&mut self, mirror: usize) {
        let mirror = &mut self.list[mirror];
        (mirror.strikes, mirror.expired, mirror.gave) = (0, 0, true);
    }

    /// Whether bytes are here, but none of `mirror`: it may have another file under this name.
    pub fn is_new(&self, mirror: usize) -> bool {
        !self.list[mirror].gave && self.list.iter().any(|mirror| mirror.gave)
    }

    /// A first chunk from `mirror` was accepted.
    pub fn accepted(&mut self) {
        self.pinned |= !self.has_digest;
    }

    /// `target`, or the address that it was redirected to, refuses: whether that may be a signature that is too old, and a new one is to be asked
    /// for. `false` for an address that answers itself, and if it happens again and again.
    pub fn expired(&mut self, target: &Target) -> bool {
        let mirror = &mut self.list[target.mirror];
        // Others that were under way to the same address hear the same.
        let current = mirror.resolved.is_some() && (!target.resolved || mirror.resolved.as_ref() == Some(&target.url));
        if current {
            mirror.resolved = None;
            mirror.expired += 1;
        }
        (current || target.resolved) && mirror.expired <= MOST_EXPIRED
    }

    /// A request to `mirror` failed in a way that may pass. After some, another one's turn comes.
    pub fn strike(&mut self, mirror: usize) {
        let struck = &mut self.list[mirror];
        struck.strikes += 1;
        struck.resolved = None; // it may be the redirect's fault
        if mirror == self.current && struck.strikes >= STRIKES {
            struck.strikes = 0;
            self.rotate();
        }
    }

    /// `mirror` is of no use. The error, if no other may take its place.
    ///
    /// # Errors
    /// Why `mirror` is of no use.
    pub fn bury(&mut self, mirror: usize, why: Error) -> Result<(), Error> {
        let was_current = mirror == self.current;
        if self.list[mirror].dead.is_none() {
            self.list[mirror].dead = Some(why);
        }
        if !was_current || self.rotate() {
            return Ok(());
        }
        Err(self.list[mirror].dead.take().expect("just set"))
    }

    /// Whether bytes of the current mirror have been accepted while another mirror could have been asked: a new start may do better.
    pub fn others_may_do(&self) -> bool {
        self.pinned
            && self
                .list
                .iter()
                .enumerate()
                .any(|(i, mirror)| i != self.current && mirror.dead.is_none())
    }

    /// Makes the next living mirror current.
    fn rotate(&mut self) -> bool {
        if self.pinned {
            return false;
        }
        let n = self.list.len();
        let next = (1..n).map(|i| (self.current + i) % n).find(|&i| self.list[i].dead.is_none());
        if let Some(next) = next {
            self.current = next;
        }
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(n: usize, has_digest: bool) -> Mirrors {
        Mirrors::new(
            &(0..n).map(|i| format!("https://{i}.example/m.gguf")).collect::<Vec<_>>(),
            has_digest,
        )
    }

    fn refused(status: u16) -> Error {
        Error::HttpStatus { url: "u".into(), status }
    }

    #[test]
    fn without_a_digest_the_first_chunks_mirror_gives_all() {
        let mut m = mirrors(3, false);
        m.bury(0, refused(404)).unwrap();
        assert_eq!(m.target().mirror, 1, "nothing has come yet");
        m.accepted();
        (0..10).for_each(|_| m.strike(1));
        assert_eq!(m.target().mirror, 1);
        assert!(m.others_may_do());
        assert_eq!(m.bury(1, refused(410)).unwrap_err().code(), "http_status");

        let mut m = mirrors(3, true);
        m.accepted();
        m.strike(0);
        m.strike(0);
        m.progress(0);
        m.strike(0);
        assert_eq!(m.target().mirror, 0, "failures in a row count");
        m.strike(0);
        m.strike(0);
        assert_eq!(m.target().mirror, 1);
        m.bury(1, refused(404)).unwrap();
        assert_eq!(m.target().mirror, 2);
        m.bury(2, refused(404)).unwrap();
        assert_eq!(m.target().mirror, 0);
        assert!(m.bury(0, refused(403)).is_err(), "all are dead");
    }

    #[test]
    fn redirects_are_remembered_until_they_expire() {
        let mut m = mirrors(1, false);
        let own = m.target();
        m.answered(&own, Some("https://0.example/m.gguf"));
        assert!(!m.target().resolved, "no redirect at all");
        for i in 0..MOST_EXPIRED {
            m.answered(&own, Some(&format!("https://cdn.example/{i}")));
            let signed = m.target();
            assert_eq!((signed.url, signed.resolved), (format!("https://cdn.example/{i}"), true));
            let under_way = [m.target(), m.target(), m.target()];
            assert!(under_way.iter().all(|target| m.expired(target)), "all of them hear it, once");
            assert!(!m.target().resolved);
        }
        m.answered(&own, Some("https://cdn.example/last"));
        let last = m.target();
        assert!(!m.expired(&last), "again and again");
        assert!(!m.expired(&own), "it answers itself");
        m.progress(0);
        m.answered(&own, Some("https://cdn.example/new"));
        assert!(m.expired(&own), "refused where the redirect led at once");
        assert!(!m.expired(&own));
    }

    #[test]
    fn if_range_is_for_those_who_answer_themselves() {
        let mut m = mirrors(1, false);
        assert!(m.resume("https://0.example/m.gguf", Some("\"x\"")));
        let own = m.target();
        assert_eq!(own.strong_etag, None, "it may be a redirect");
        m.answered(&own, None);
        assert_eq!(m.target().strong_etag.as_deref(), Some("\"x\""));
        m.answered(&own, Some("https://cdn.example/signed"));
        assert_eq!(m.target().strong_etag, None);
    }

    #[test]
    fn another_version_is_noticed() {
        let mut m = mirrors(2, true);
        let version = |etag: &str| Headers {
            etag: Some(etag.into()),
            ..Headers::default()
        };
        assert!(m.is_same_version(0, &version("\"a\"")));
        assert_eq!(m.provenance().1, Some("\"a\""));
        assert!(m.is_same_version(0, &version("W/\"a\"")), "the same, compressed perhaps");
        assert!(m.is_same_version(0, &Headers::default()), "hidden");
        assert!(!m.is_same_version(0, &version("\"b\"")));
        assert!(m.is_same_version(1, &version("\"b\"")), "every mirror has its own");
    }

    #[test]
    fn what_was_stored_goes_on_where_it_came_from() {
        let mut m = mirrors(2, false);
        assert!(m.resume("https://1.example/m.gguf", Some("W/\"x\"")));
        assert_eq!((m.target().mirror, m.target().strong_etag), (1, None));
        assert_eq!(m.provenance(), ("https://1.example/m.gguf", Some("W/\"x\"")));
        m.strike(1);
        m.strike(1);
        m.strike(1);
        assert_eq!(m.target().mirror, 1, "pinned");
        assert!(!mirrors(2, false).resume("https://old.example/m.gguf", None));
        assert!(
            mirrors(2, true).resume("https://old.example/m.gguf", None),
            "the digest will tell"
        );
    }
}
