//! Pending visits of anonymous browsers, stored in the page and a cookie instead of in server
//! memory.
//!
//! A sign-in page needs state until its form is posted: the authorization request, or the page to
//! open next. If the server stored that state in memory, anyone could fill the memory, or evict the
//! state of other users from a bounded table. [`Visits`] puts the state into the page's own form,
//! protected against changes, and binds it to a short cookie of the browser. An anonymous request
//! then needs no server memory.
//!
//! - [`Visits::browser`] returns the browser of a request: by its cookie, or as a new one;
//! - [`Visits::seal`] creates the hidden field of the form;
//! - [`Visits::open`] reads the field, if it belongs to this browser and has not expired;
//! - [`Visits::finish`] invalidates the form. Call it when the user was authenticated and the
//!   purpose of the visit is fulfilled, so that only successful visits need memory.
//!
//! A sealed value is authentic but not secret: its browser can read it.
//!
//! # Examples
//!
//! ```
//! use http::HeaderMap;
//! use px_server::visits::{VisitError, Visits};
//!
//! const SIGN_IN: &str = "sign-in";
//! # fn main() -> Result<(), VisitError> {
//! let visits = Visits::new();
//!
//! // `GET /login?to=/accounts`: the page, its hidden field and its cookie.
//! let browser = visits.browser(&HeaderMap::new());
//! let hidden_field = visits.seal(&browser, SIGN_IN, &"/accounts")?;
//! let set_cookie = browser.set_cookie().expect("a new browser gets a cookie");
//!
//! // `POST /login`: the form, from the same browser.
//! let mut headers = HeaderMap::new();
//! let cookie = set_cookie.to_str().unwrap().split(';').next().unwrap();
//! headers.insert("cookie", cookie.parse().unwrap());
//! let visit = visits.open::<String>(&headers, SIGN_IN, &hidden_field)?;
//! // The password is right:
//! visits.finish(&visit)?;
//! assert_eq!(visit.value, "/accounts");
//! assert_eq!(visits.finish(&visit), Err(VisitError::Used));
//! # Ok(()) }
//! ```

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header};
use lru::LruCache;
use px_core::{Clock, Random, SystemClock, SystemRandom, random};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;
use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Default time from the page to its form.
const DEFAULT_LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// Maximum size of a sealed value.
const MAX_SEALED_BYTES: usize = 48 << 10;
/// Maximum number of finished visits that are remembered; about 32 bytes each.
const MAX_FINISHED: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Length of a cookie's value, in characters: 256 bits as base64url.
const COOKIE_CHARS: usize = 43;

/// Seals the state of a page into the page itself. See the [module](self).
///
/// Processes that serve the same pages need the same `key`. Each process remembers finished visits
/// separately, so a visit can be finished once in each. If that matters, record finished visits in
/// the database too, by [`Visit::id`].
pub struct Visits {
    key: [u8; 32],
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    lifetime: TimeDelta,
    secure: bool,
    finished: Mutex<LruCache<[u8; 16], DateTime<Utc>>>,
}

impl Default for Visits {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Visits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visits").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// The browser that a visit belongs to, identified by its cookie.
pub struct Browser {
    secret: String,
    new_cookie: Option<String>,
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser")
            .field("is_new", &self.new_cookie.is_some())
            .finish_non_exhaustive()
    }
}

impl Browser {
    /// Returns the `Set-Cookie` header for the page. Returns `None` if the browser already has the
    /// cookie.
    #[must_use]
    pub fn set_cookie(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.new_cookie.as_deref()?).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// A visit with a posted form.
#[derive(Clone)]
#[non_exhaustive]
pub struct Visit<T> {
    /// The sealed value.
    pub value: T,
    /// Expiry time of the form.
    pub expires_at: DateTime<Utc>,
    id: [u8; 16],
}

impl<T> Visit<T> {
    /// Returns the id of the visit, for a store that several processes share.
    #[must_use]
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.id)
    }
}

impl<T> fmt::Debug for Visit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Error of a visit. Only [`Unsealable`](Self::Unsealable) is a fault of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VisitError {
    /// The form is not from one of these pages, was changed, or belongs to another browser.
    #[error("the form does not belong to a page that this browser opened")]
    Unknown,
    /// The page was open for too long.
    #[error("the page has expired")]
    Expired,
    /// The form was already used.
    #[error("the form was already used")]
    Used,
    /// The value cannot be sealed: it cannot be written as JSON, or is too large.
    #[error("the value cannot be sealed: it is not JSON or is too large")]
    Unsealable,
}

#[derive(Serialize, Deserialize)]
struct Payload<T> {
    id: String,
    expires_at: i64,
    value: T,
}

impl Visits {
    /// Creates a sealer with a random key, which is lost when the process ends.
    #[must_use]
    pub fn new() -> Self {
        let mut key = [0; 32];
        SystemRandom.fill(&mut key);
        Self::with_key(key)
    }

    /// Creates a sealer with a given key, which several processes can share.
    #[must_use]
    pub fn with_key(key: [u8; 32]) -> Self {
        Self {
            key,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            lifetime: DEFAULT_LIFETIME,
            secure: true,
            finished: Mutex::new(LruCache::new(MAX_FINISHED)),
        }
    }

    /// Sets the lifetime of a page's form; 10 minutes by default.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = TimeDelta::from_std(lifetime).unwrap_or(DEFAULT_LIFETIME);
        self
    }

    /// Sets whether the cookie has the attribute `Secure`; `true` by default. Use `false` for a
    /// program on loopback without TLS, because browsers would reject the cookie.
    #[must_use]
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of randomness; the operating system's generator by default. For tests only.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Returns the browser that sent a request: identified by its cookie, or a new one.
    #[must_use]
    pub fn browser(&self, headers: &HeaderMap) -> Browser {
        if let Some(secret) = self.cookie(headers) {
            return Browser { secret: secret.to_owned(), new_cookie: None };
        }
        let secret = random::secret(&*self.random);
        let (name, attribute) = (self.cookie_name(), if self.secure { "; Secure" } else { "" });
        // A session cookie ends with the browser. Reusing it on reload keeps other tabs working.
        let cookie = format!("{name}={secret}; Path=/; HttpOnly; SameSite=Lax{attribute}");
        Browser { secret, new_cookie: Some(cookie) }
    }

    /// Seals a value for one browser and one purpose. The result has no characters that HTML or a
    /// form would have to escape.
    ///
    /// # Errors
    /// [`VisitError::Unsealable`] if the value cannot be written as JSON, or the sealed text
    /// exceeds 48 KiB (a value of about 32 KiB).
    pub fn seal<T: Serialize>(
        &self,
        browser: &Browser,
        purpose: &str,
        value: &T,
    ) -> Result<String, VisitError> {
        let expires_at = self.clock.now() + self.lifetime;
        let id = random::identifier(&*self.random);
        let payload = Payload { id, expires_at: expires_at.timestamp(), value };
        let json = serde_json::to_vec(&payload).map_err(|_| VisitError::Unsealable)?;
        let payload = URL_SAFE_NO_PAD.encode(json);
        let tag = self.tag(purpose, &browser.secret, &payload).finalize().into_bytes();
        let sealed = format!("{payload}.{}", URL_SAFE_NO_PAD.encode(tag));
        if sealed.len() > MAX_SEALED_BYTES {
            return Err(VisitError::Unsealable);
        }
        Ok(sealed)
    }

    /// Opens a sealed value that was posted with a form, if the same browser opened the page.
    ///
    /// # Errors
    /// - [`VisitError::Unknown`] if it belongs to another browser or purpose, or was changed.
    /// - [`VisitError::Expired`] if the page was open for too long.
    /// - [`VisitError::Used`] if the visit was already finished.
    pub fn open<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        purpose: &str,
        sealed: &str,
    ) -> Result<Visit<T>, VisitError> {
        let cookie = self.cookie(headers).ok_or(VisitError::Unknown)?;
        if sealed.len() > MAX_SEALED_BYTES {
            return Err(VisitError::Unknown);
        }
        let (payload, tag) = sealed.split_once('.').ok_or(VisitError::Unknown)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| VisitError::Unknown)?;
        let right = self.tag(purpose, cookie, payload).verify_slice(&tag);
        right.map_err(|_| VisitError::Unknown)?;
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| VisitError::Unknown)?;
        let payload: Payload<T> = serde_json::from_slice(&json).map_err(|_| VisitError::Unknown)?;
        let id = URL_SAFE_NO_PAD.decode(&payload.id).ok().and_then(|id| id.try_into().ok());
        let id: [u8; 16] = id.ok_or(VisitError::Unknown)?;
        let expires_at = DateTime::from_timestamp(payload.expires_at, 0);
        let expires_at = expires_at.ok_or(VisitError::Unknown)?;
        if expires_at <= self.clock.now() {
            return Err(VisitError::Expired);
        }
        if self.finished().contains(&id) {
            return Err(VisitError::Used);
        }
        Ok(Visit { value: payload.value, expires_at, id })
    }

    /// Finishes a visit: its form is refused from now on.
    ///
    /// Call it immediately before an action that may happen only once, such as
    /// [`OAuth::approve`](crate::oauth::OAuth::approve). Of several concurrent calls, one succeeds.
    ///
    /// # Errors
    /// [`VisitError::Used`] if the visit was already finished.
    pub fn finish<T>(&self, visit: &Visit<T>) -> Result<(), VisitError> {
        match self.finished().put(visit.id, visit.expires_at) {
            None => Ok(()),
            Some(_) => Err(VisitError::Used),
        }
    }

    /// Reverts [`finish`](Self::finish), if the action failed.
    pub fn reopen<T>(&self, visit: &Visit<T>) {
        self.finished().pop(&visit.id);
    }

    fn finished(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 16], DateTime<Utc>>> {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        // The order of finishing is close to the order of expiry, so a few removals at a time
        // suffice.
        let now = self.clock.now();
        for _ in 0..4 {
            match finished.peek_lru() {
                Some((_, expires_at)) if *expires_at <= now => finished.pop_lru(),
                _ => break,
            };
        }
        finished
    }

    /// Returns the tag over purpose, cookie and payload, each with its length.
    fn tag(&self, purpose: &str, cookie: &str, payload: &str) -> Hmac<Sha256> {
        // HMAC pads a key that is shorter than a block with zeros.
        let mut block = [0; 64];
        block[..self.key.len()].copy_from_slice(&self.key);
        let mut tag = Hmac::<Sha256>::new(&block.into());
        for part in [purpose, cookie, payload] {
            tag.update(&(part.len() as u64).to_be_bytes());
            tag.update(part.as_bytes());
        }
        tag
    }

    fn cookie_name(&self) -> &'static str {
        // The prefix `__Host-` prevents other hosts of the domain from setting the cookie.
        if self.secure { "__Host-px-visit" } else { "px-visit" }
    }

    fn cookie<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let name = self.cookie_name();
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
            .filter(|value| value.len() == COOKIE_CHARS && value.bytes().all(good))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_core::ManualClock;

    fn clock() -> ManualClock {
        ManualClock::new(DateTime::from_timestamp(1_700_000_000, 0).unwrap())
    }

    fn visits(clock: &ManualClock) -> Visits {
        Visits::with_key([7; 32]).clock(Arc::new(clock.clone()))
    }

    fn back(browser: &Browser) -> HeaderMap {
        let cookie = browser.set_cookie().unwrap();
        let cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; {cookie}; c=d").parse().unwrap());
        headers
    }

    #[test]
    fn a_form_is_good_for_its_browser_its_purpose_and_its_time() {
        let clock = clock();
        let visits = visits(&clock);
        let (ann, eve) = (visits.browser(&HeaderMap::new()), visits.browser(&HeaderMap::new()));
        let sealed = visits.seal(&ann, "a", &"value".to_owned()).unwrap();
        let open = |headers: &HeaderMap, purpose: &str, sealed: &str| {
            visits.open::<String>(headers, purpose, sealed).map(|visit| visit.value)
        };
        assert_eq!(open(&back(&ann), "a", &sealed), Ok("value".to_owned()));
        let known = visits.browser(&back(&ann));
        assert!(known.set_cookie().is_none(), "a browser that has the cookie keeps it");
        let again = visits.seal(&known, "a", &"other").unwrap();
        assert_eq!(open(&back(&ann), "a", &again), Ok("other".to_owned()));

        assert_eq!(open(&back(&eve), "a", &sealed), Err(VisitError::Unknown));
        assert_eq!(open(&HeaderMap::new(), "a", &sealed), Err(VisitError::Unknown));
        assert_eq!(open(&back(&ann), "b", &sealed), Err(VisitError::Unknown));
        let other_key = Visits::with_key([8; 32]);
        let foreign = other_key.open::<String>(&back(&ann), "a", &sealed);
        assert_eq!(foreign.unwrap_err(), VisitError::Unknown);

        clock.advance(TimeDelta::minutes(10) - TimeDelta::seconds(1));
        assert!(open(&back(&ann), "a", &sealed).is_ok());
        clock.advance(TimeDelta::seconds(1));
        assert_eq!(open(&back(&ann), "a", &sealed), Err(VisitError::Expired));
    }

    #[test]
    fn a_changed_form_is_unknown() {
        let clock = clock();
        let visits = visits(&clock);
        let ann = visits.browser(&HeaderMap::new());
        let sealed = visits.seal(&ann, "a", &"value").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let opened = visits.open::<String>(&back(&ann), "a", &changed);
            // The last base64 character has unused bits, which must be zero.
            assert_eq!(opened.unwrap_err(), VisitError::Unknown, "at {at}");
        }
        for text in ["", ".", "a.b", &sealed[..sealed.len() - 1], &"x".repeat(100_000)] {
            let opened = visits.open::<String>(&back(&ann), "a", text);
            assert_eq!(opened.unwrap_err(), VisitError::Unknown);
        }
    }

    #[test]
    fn a_form_is_used_once_and_what_is_remembered_ends() {
        let clock = clock();
        let visits = visits(&clock);
        let ann = visits.browser(&HeaderMap::new());
        let headers = back(&ann);
        let sealed = visits.seal(&ann, "a", &1).unwrap();
        let visit = visits.open::<u8>(&headers, "a", &sealed).unwrap();
        assert_eq!(visits.finish(&visit), Ok(()));
        assert_eq!(visits.finish(&visit), Err(VisitError::Used));
        let reused = visits.open::<u8>(&headers, "a", &sealed);
        assert_eq!(reused.unwrap_err(), VisitError::Used);
        visits.reopen(&visit);
        assert!(visits.open::<u8>(&headers, "a", &sealed).is_ok());
        visits.finish(&visit).unwrap();
        clock.advance(TimeDelta::minutes(11));
        let _ = visits.open::<u8>(&headers, "a", &sealed);
        assert_eq!(visits.finished().len(), 0);
    }

    #[test]
    fn a_value_that_is_too_large_is_not_sealed() {
        let visits = visits(&clock());
        let ann = visits.browser(&HeaderMap::new());
        let large = "x".repeat(MAX_SEALED_BYTES);
        assert_eq!(visits.seal(&ann, "a", &large).unwrap_err(), VisitError::Unsealable);
        // A state of 8 KiB that JSON has to escape fits.
        assert!(visits.seal(&ann, "a", &"\"".repeat(8 << 10)).is_ok());
    }
}
