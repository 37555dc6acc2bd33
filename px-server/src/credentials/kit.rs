//! Credentials mode for a bank that supplies passwords and factors.

use super::{
    Credentials,
    challenges::{CHALLENGE_LIFETIME, ChallengeError, ChallengeTable},
    totp::TotpSecret,
};
use crate::{Error, PermittedAccounts, guard::CallerAddr, oauth::OAuth};
use async_trait::async_trait;
use chrono::TimeDelta;
use px_core::{Clock, Random, SystemClock, SystemRandom, random};
use px_types::{
    AccessToken, ChallengeId, ClientId, OneTimeCode, Password, Scope, UserId, Username,
    model::sign_in::{Challenge, ChallengeKind, Delivery, Kba, Otp, Question, SignIn, UserToken},
    partner::{
        KbaAnswerEntry, RequestAuthToken, SendOtp, SendOtpResponse, TwoFactorRequest,
        ValidateTwoFactor,
    },
};
use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Maximum number of challenges, and of users with attempts, that are stored in memory.
const MAX_ENTRIES: usize = 10_000;
/// Default duration of a lock-out.
const DEFAULT_LOCK_TIME: TimeDelta = TimeDelta::minutes(15);

/// A second factor that a user must present after the password.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Factor {
    /// A one-time code that the bank sends, by one of these deliveries.
    Otp(Vec<Delivery>),
    /// An answer to each of these questions.
    Kba(Vec<Question>),
    /// A time-based code from the user's device.
    Totp,
}

/// The origin of a sign-in.
///
/// A challenge can be answered only where it was issued: by the client that received it, or on the
/// institution's own pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignInOrigin {
    /// The endpoints of credentials mode, called by this client. The address of the call is the
    /// client's and gives no information about the user.
    Client(ClientId),
    /// The institution's own pages, with the address of the browser if known.
    OwnPages(Option<CallerAddr>),
}

impl SignInOrigin {
    /// Returns the client that a challenge is bound to. Returns `None` for the institution's
    /// own pages, because a browser's address may change between two steps.
    fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Client(client) => Some(client),
            Self::OwnPages(_) => None,
        }
    }
}

/// A step of a sign-in, for the institution's own pages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SignInStep {
    /// The next challenge that the user must answer.
    Challenge(Challenge),
    /// The user has signed in.
    SignedIn(UserId),
}

/// The bank's users, passwords and factors.
#[async_trait]
pub trait SignInMethods: Send + Sync + 'static {
    /// Returns the user with this name and password. Returns `None` both for an unknown user
    /// and for a wrong password.
    ///
    /// The implementation must take the same time in both cases, for example by hashing the
    /// password against a fixed hash if the user does not exist, and must limit the number of
    /// guesses. It must not store or log the name or the password. Count attempts by `origin`
    /// and name together: a count by name alone would let anyone lock a user out.
    ///
    /// For a user whom the bank itself has locked out, return `None` whatever the password is.
    /// Any other response to the right password would confirm it.
    ///
    /// # Errors
    /// [`Error::too_many_requests`] after too many wrong passwords; [`Error::unavailable`] if
    /// the password cannot be checked now.
    async fn check_password(
        &self,
        origin: &SignInOrigin,
        username: &Username,
        password: &Password,
    ) -> Result<Option<UserId>, Error>;

    /// Returns the factors that the user must present after the password, in order. Often there
    /// are none.
    ///
    /// # Errors
    /// If the factors cannot be read.
    async fn factors(&self, user: &UserId) -> Result<Vec<Factor>, Error>;

    /// Sends a code to the user. Required for [`Factor::Otp`]. Do not log the code.
    ///
    /// # Errors
    /// If the code cannot be sent; it is then discarded.
    async fn send_otp(
        &self,
        _user: &UserId,
        _delivery: &Delivery,
        _code: &OneTimeCode,
    ) -> Result<(), Error> {
        Err(Error::internal(
            "`Factor::Otp` is used, but `SignInMethods::send_otp` is not implemented",
        ))
    }

    /// Returns whether all the answers are right. Required for [`Factor::Kba`].
    ///
    /// There is exactly one answer for each question of the factor. Compare all of them, in
    /// constant time.
    ///
    /// # Errors
    /// If the answers cannot be checked.
    async fn check_kba(&self, _user: &UserId, _answers: &[KbaAnswerEntry]) -> Result<bool, Error> {
        Err(Error::internal(
            "`Factor::Kba` is used, but `SignInMethods::check_kba` is not implemented",
        ))
    }

    /// Returns the secret that the user's device shares with the bank. Required for
    /// [`Factor::Totp`].
    ///
    /// # Errors
    /// If the secret cannot be read.
    async fn totp_secret(&self, _user: &UserId) -> Result<TotpSecret, Error> {
        Err(Error::internal(
            "`Factor::Totp` is used, but `SignInMethods::totp_secret` is not implemented",
        ))
    }

    /// Handles the lock-out of a user after too many wrong answers. The bank may notify the
    /// user, or extend the lock.
    async fn locked_out(&self, _user: &UserId) {}
}

/// Issues the token of a user who signed in.
#[async_trait]
pub trait TokenIssuer: Send + Sync + 'static {
    /// Issues a token for a client and a user.
    ///
    /// # Errors
    /// If no token can be issued.
    async fn issue(&self, client: &ClientId, user: &UserId) -> Result<AccessToken, Error>;
}

/// Issues tokens over all accounts and all scopes except `offline_access`, which this mode does not
/// have. See [`OAuth::issue_for`] for their lifetime.
#[async_trait]
impl TokenIssuer for OAuth {
    async fn issue(&self, client: &ClientId, user: &UserId) -> Result<AccessToken, Error> {
        let scopes = self.scopes().iter().filter(|s| **s != Scope::OFFLINE_ACCESS);
        let scopes = scopes.cloned().collect();
        self.issue_for(client, user.clone(), scopes, PermittedAccounts::All).await
    }
}

/// Credentials mode over a bank's [`SignInMethods`].
///
/// The kit creates and checks challenges. A challenge lives 5 minutes, is bound to its user and its
/// client, and ends with the right answer. The fifth wrong answer locks it; it is then refused with
/// `user_locked`. Wrong answers also count per user, over all challenges. After the twentieth,
/// everything of that user is refused with `user_locked`, including a new sign-in, until 15 minutes
/// have passed since the last wrong answer. Otherwise only a completed sign-in resets that count.
///
/// If the bank's own pages sign users in too, use the same kit there ([`begin`](Self::begin),
/// [`send_code`](Self::send_code), [`answer`](Self::answer)). Two kits would have separate locks,
/// and each would accept the same code of a device once.
///
/// Challenges and attempts are stored in memory. If several processes serve one bank, each counts
/// separately, and a challenge must return to the process that created it.
///
/// Contract: `px.md` section 5.
pub struct CredentialsKit {
    methods: Arc<dyn SignInMethods>,
    tokens: Arc<dyn TokenIssuer>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    challenges: Mutex<ChallengeTable>,
}

impl fmt::Debug for CredentialsKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsKit").finish_non_exhaustive()
    }
}

impl CredentialsKit {
    /// Creates a kit for a bank's users. `tokens` issues the tokens; usually it is an
    /// [`OAuth`].
    #[must_use]
    pub fn new(methods: Arc<dyn SignInMethods>, tokens: Arc<dyn TokenIssuer>) -> Self {
        Self {
            methods,
            tokens,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            challenges: Mutex::new(new_table(DEFAULT_LOCK_TIME)),
        }
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of randomness; the operating system's generator by default. For tests
    /// only.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Sets the duration of a lock-out after the last wrong answer; 15 minutes by default.
    #[must_use]
    pub fn lock_time(mut self, lock_time: Duration) -> Self {
        let lock_time = TimeDelta::from_std(lock_time).unwrap_or(TimeDelta::MAX);
        self.challenges = Mutex::new(new_table(lock_time));
        self
    }

    fn challenges(&self) -> MutexGuard<'_, ChallengeTable> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a name and a password, on the institution's own pages or for a client.
    ///
    /// # Errors
    /// `invalid_credentials` if they are wrong, `user_locked` if the user has too many wrong
    /// attempts, and the errors of [`SignInMethods::check_password`] and
    /// [`SignInMethods::factors`].
    pub async fn begin(
        &self,
        origin: &SignInOrigin,
        username: &Username,
        password: &Password,
    ) -> Result<SignInStep, Error> {
        let user = self.methods.check_password(origin, username, password).await?;
        let user = user.ok_or_else(Error::invalid_credentials)?;
        if self.challenges().is_locked(&user, self.clock.now()) {
            return Err(Error::user_locked());
        }
        let factors = self.methods.factors(&user).await?;
        self.next_step(origin, user, factors.into())
    }

    /// Sends a one-time code.
    ///
    /// # Errors
    /// - `invalid_challenge` if the challenge is unknown, expired or does not use codes.
    /// - `user_locked` if the challenge or the user has too many wrong attempts.
    /// - `invalid_request` if the challenge does not offer the delivery.
    /// - `too_many_requests` after the fifth code of a challenge.
    /// - The errors of [`SignInMethods::send_otp`].
    pub async fn send_code(&self, origin: &SignInOrigin, request: &SendOtp) -> Result<(), Error> {
        let (user, id) = (&request.user_id, &request.request.challenge_id);
        let client = origin.client();
        let open = self.challenges().get(id, user, client, self.clock.now())?;
        let Some(Factor::Otp(deliveries)) = open.factors.front() else {
            return Err(Error::invalid_challenge());
        };
        let wanted = &request.request.delivery_id;
        let delivery = deliveries.iter().find(|delivery| delivery.id == *wanted);
        let delivery = delivery.ok_or_else(|| {
            Error::invalid_request("`delivery_id` is not one of the challenge's deliveries.")
        })?;
        let (code, now) = (self.one_time_code()?, self.clock.now());
        self.challenges().record_code(id, user, client, &code, now)?;
        let sent = self.methods.send_otp(user, delivery, &code).await;
        if sent.is_err() {
            self.challenges().discard_code(id, &code);
        }
        sent
    }

    /// Checks the answer to a challenge.
    ///
    /// # Errors
    /// - `invalid_challenge` if the answer is wrong, or the challenge is unknown, expired or
    ///   completed.
    /// - `user_locked` if the challenge or the user has too many wrong attempts.
    /// - The errors of [`SignInMethods`], if it cannot check the answer.
    pub async fn answer(
        &self,
        origin: &SignInOrigin,
        request: ValidateTwoFactor,
    ) -> Result<SignInStep, Error> {
        let (user, answer) = (request.user_id, request.request);
        let (id, client) = (answer.challenge_id(), origin.client());
        let now = self.clock.now();
        let mut open = self.challenges().get(id, &user, client, now)?;
        if matches!(open.factors.front(), Some(Factor::Otp(_))) && open.code.is_none() {
            // No code was sent, so this does not count as a wrong answer.
            return Err(Error::invalid_challenge());
        }
        open = self.challenges().begin_attempt(id, &user, client, now)?;
        let Some(factor) = open.factors.pop_front() else {
            return Err(Error::invalid_challenge());
        };
        let right = self.check_response(&user, &factor, open.code.as_ref(), &answer).await;
        if !matches!(right, Ok(false)) {
            self.challenges().refund_attempt(id, &user);
        }
        if !right? {
            if self.challenges().is_locked(&user, now) {
                self.methods.locked_out(&user).await;
            }
            return Err(Error::invalid_challenge());
        }
        if !self.challenges().close(id) {
            return Err(Error::invalid_challenge());
        }
        self.next_step(origin, user, open.factors)
    }

    /// Returns the next challenge, or the end of the sign-in if every factor was checked.
    fn next_step(
        &self,
        origin: &SignInOrigin,
        user: UserId,
        factors: VecDeque<Factor>,
    ) -> Result<SignInStep, Error> {
        let Some(factor) = factors.front() else {
            self.challenges().reset_attempts(&user);
            return Ok(SignInStep::SignedIn(user));
        };
        let kind = match factor {
            Factor::Otp(deliveries) => ChallengeKind::Otp(Otp::new(deliveries.clone())),
            Factor::Kba(questions) => ChallengeKind::Kba(Kba::new(questions.clone())),
            Factor::Totp => ChallengeKind::Totp,
        };
        let id = random::secret(&*self.random);
        let id = ChallengeId::new(id).map_err(Error::internal)?;
        let now = self.clock.now();
        let (for_state, client) = (user.clone(), origin.client().cloned());
        self.challenges().open(id.clone(), for_state, client, factors, now);
        Ok(SignInStep::Challenge(Challenge::new(user, id, kind)))
    }

    /// Checks the answer to a challenge. The attempt is already counted.
    async fn check_response(
        &self,
        user: &UserId,
        factor: &Factor,
        sent: Option<&OneTimeCode>,
        answer: &TwoFactorRequest,
    ) -> Result<bool, Error> {
        match (factor, answer) {
            (Factor::Otp(_), TwoFactorRequest::Code(answer)) => {
                Ok(sent.is_some_and(|sent| *sent == answer.code))
            }
            (Factor::Totp, TwoFactorRequest::Code(answer)) => {
                let secret = self.methods.totp_secret(user).await?;
                let now = self.clock.now();
                let mut challenges = self.challenges();
                let step = secret.check(&answer.code, now, challenges.last_totp_step(user));
                if let Some(step) = step {
                    challenges.record_totp_step(user, step);
                }
                Ok(step.is_some())
            }
            (Factor::Kba(questions), TwoFactorRequest::Answers(request)) => {
                let expected: BTreeSet<_> = questions.iter().map(|question| &question.id).collect();
                let received: BTreeSet<_> =
                    request.answers.iter().map(|a| &a.question_id).collect();
                if expected != received || request.answers.len() != received.len() {
                    return Ok(false);
                }
                self.methods.check_kba(user, &request.answers).await
            }
            _ => Ok(false),
        }
    }

    fn one_time_code(&self) -> Result<OneTimeCode, Error> {
        // The largest multiple of a million. Values above it would favor low codes.
        const LIMIT: u32 = u32::MAX - u32::MAX % 1_000_000;
        loop {
            let mut bytes = [0; 4];
            self.random.fill(&mut bytes);
            let number = u32::from_le_bytes(bytes);
            if number < LIMIT {
                return Ok(OneTimeCode::new(format!("{:06}", number % 1_000_000)));
            }
        }
    }

    /// Returns the response to a client for a step: a challenge, or its token.
    async fn client_response(&self, client: &ClientId, step: SignInStep) -> Result<SignIn, Error> {
        match step {
            SignInStep::Challenge(challenge) => Ok(SignIn::Challenge(challenge)),
            SignInStep::SignedIn(user) => {
                let token = self.tokens.issue(client, &user).await?;
                Ok(SignIn::Token(UserToken::new(user, token)))
            }
        }
    }
}

#[async_trait]
impl Credentials for CredentialsKit {
    async fn auth_token(
        &self,
        client: &ClientId,
        request: RequestAuthToken,
    ) -> Result<SignIn, Error> {
        let (origin, request) = (SignInOrigin::Client(client.clone()), request.request);
        let step = self.begin(&origin, &request.username, &request.password).await?;
        self.client_response(client, step).await
    }

    async fn send_otp(
        &self,
        client: &ClientId,
        request: SendOtp,
    ) -> Result<SendOtpResponse, Error> {
        let origin = SignInOrigin::Client(client.clone());
        self.send_code(&origin, &request).await.map(|()| SendOtpResponse::new())
    }

    async fn two_factor(
        &self,
        client: &ClientId,
        request: ValidateTwoFactor,
    ) -> Result<SignIn, Error> {
        let step = self.answer(&SignInOrigin::Client(client.clone()), request).await?;
        self.client_response(client, step).await
    }
}

impl From<ChallengeError> for Error {
    fn from(closed: ChallengeError) -> Self {
        match closed {
            ChallengeError::NotFound => Self::invalid_challenge(),
            ChallengeError::Locked => Self::user_locked(),
            ChallengeError::TooManySends => {
                Self::too_many_requests(CHALLENGE_LIFETIME.to_std().unwrap_or_default())
            }
        }
    }
}

fn new_table(lock_time: TimeDelta) -> ChallengeTable {
    let capacity = NonZeroUsize::new(MAX_ENTRIES).unwrap_or(NonZeroUsize::MIN);
    ChallengeTable::new(capacity, lock_time)
}
