//! The endpoints of credentials mode for a bank that brings passwords and factors.

use super::{
    Credentials,
    state::{CHALLENGE_LIFE, Closed, State},
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

/// How many challenges, and how many users' tries, are remembered.
const CAPACITY: usize = 10_000;
/// How long a lock-out lasts by default.
const LOCK_TIME: TimeDelta = TimeDelta::minutes(15);

/// Something that a user must show beside the password.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Factor {
    /// A code that the bank sends, by one of these ways.
    Otp(Vec<Delivery>),
    /// An answer to each of these questions.
    Kba(Vec<Question>),
    /// A code that the user's device makes.
    Totp,
}

/// The origin of a sign-in.
///
/// A challenge can be answered only where it was given: by the client that got it, or on the
/// institution's own pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignInOrigin {
    /// The endpoints of credentials mode, called by this client. The address of the call is the
    /// client's and says nothing of the user.
    Client(ClientId),
    /// The institution's own pages, with the address of the browser if it is known.
    OwnPages(Option<CallerAddr>),
}

impl SignInOrigin {
    /// Returns the party to which a challenge is bound: the client, or `None` for the institution's
    /// own pages, since a browser's address may change between two steps.
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
    /// The user must answer this next.
    Challenge(Challenge),
    /// The user has signed in.
    SignedIn(UserId),
}

/// What the bank brings: its users, their passwords and their factors.
#[async_trait]
pub trait SignInMethods: Send + Sync + 'static {
    /// The user whose name and password these are; `None` for an unknown user and for a
    /// wrong password alike.
    ///
    /// The bank sees to it that both take the same time, for instance by hashing the
    /// password against a fixed hash where there is no user, and that passwords cannot be
    /// guessed without end. Neither name nor password may be kept or logged. Count attempts by
    /// `origin` and name together: a count by name alone lets anybody keep the user out.
    ///
    /// For a user whom the bank itself has locked out it returns `None` whatever the password
    /// is. Another response to the right password would confirm it.
    ///
    /// # Errors
    /// [`Error::too_many_requests`] after too many wrong passwords, [`Error::unavailable`] when
    /// it cannot tell.
    async fn check_password(
        &self,
        origin: &SignInOrigin,
        username: &Username,
        password: &Password,
    ) -> Result<Option<UserId>, Error>;

    /// What the user must show beside the password, in this order; often nothing.
    ///
    /// # Errors
    /// When the bank cannot tell.
    async fn factors(&self, user: &UserId) -> Result<Vec<Factor>, Error>;

    /// Sends a code to the user. Needed for [`Factor::Otp`]. The code may not be logged.
    ///
    /// # Errors
    /// When it cannot be sent; it is then worthless.
    async fn send_otp(
        &self,
        _user: &UserId,
        _delivery: &Delivery,
        _code: &OneTimeCode,
    ) -> Result<(), Error> {
        Err(Error::internal("the bank offers OTP and does not send codes"))
    }

    /// Whether all the answers are right. Needed for [`Factor::Kba`].
    ///
    /// Exactly one answer comes for each question that the factor asked. Compare all of
    /// them, in constant time.
    ///
    /// # Errors
    /// When the bank cannot tell.
    async fn check_kba(&self, _user: &UserId, _answers: &[KbaAnswerEntry]) -> Result<bool, Error> {
        Err(Error::internal("the bank offers KBA and checks no answers"))
    }

    /// The secret that the user's device shares with the bank. Needed for [`Factor::Totp`].
    ///
    /// # Errors
    /// When the bank cannot tell.
    async fn totp_secret(&self, _user: &UserId) -> Result<TotpSecret, Error> {
        Err(Error::internal("the bank offers TOTP and has no secrets"))
    }

    /// A user's tries are spent. The bank may tell the user, or keep the lock for longer.
    async fn locked_out(&self, _user: &UserId) {}
}

/// Gives the token of a user who signed in.
#[async_trait]
pub trait TokenIssuer: Send + Sync + 'static {
    /// A token for a client and a user.
    ///
    /// # Errors
    /// When there is none to give.
    async fn issue(&self, client: &ClientId, user: &UserId) -> Result<AccessToken, Error>;
}

/// Gives tokens over all accounts and all scopes but `offline_access`, which this mode does
/// not have. See [`OAuth::issue_for`] for how long they live.
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
/// The kit makes and checks challenges. A challenge lives 5 minutes, is bound to its user
/// and its client, and is spent by the right answer. The fifth wrong answer locks it: from
/// then on it is refused with `user_locked`. Wrong answers also count per user, over all
/// challenges: after the twentieth everything of that user is refused with `user_locked`, a
/// new sign-in too, until no answer was given for 15 minutes. Only a finished sign-in resets
/// that count.
///
/// A bank whose own pages sign users in as well uses the same kit there ([`begin`](Self::begin),
/// [`send_code`](Self::send_code), [`answer`](Self::answer)): with two kits, each would have locks
/// of its own, and a code of a device would serve once at each.
///
/// Challenges and tries are kept in memory. Where several processes serve one bank, each
/// counts its own, and a challenge must come back to the process that made it.
///
/// Contract: `px.md` section 5.
pub struct CredentialsKit {
    methods: Arc<dyn SignInMethods>,
    tokens: Arc<dyn TokenIssuer>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    state: Mutex<State>,
}

impl fmt::Debug for CredentialsKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsKit").finish_non_exhaustive()
    }
}

impl CredentialsKit {
    /// Serves a bank's users; tokens come from the issuer, an [`OAuth`] as a rule.
    #[must_use]
    pub fn new(methods: Arc<dyn SignInMethods>, tokens: Arc<dyn TokenIssuer>) -> Self {
        Self {
            methods,
            tokens,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            state: Mutex::new(new_state(LOCK_TIME)),
        }
    }

    /// Takes the time from elsewhere than the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes randomness from elsewhere than the operating system: for tests alone.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// How long a lock-out lasts after the last wrong answer; 15 minutes by default.
    #[must_use]
    pub fn lock_time(mut self, lock_time: Duration) -> Self {
        let lock_time = TimeDelta::from_std(lock_time).unwrap_or(TimeDelta::MAX);
        self.state = Mutex::new(new_state(lock_time));
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a name and a password, on the institution's own pages or for a client.
    ///
    /// # Errors
    /// `invalid_credentials` if they are not right, `user_locked` if the user's tries are spent,
    /// and those of [`SignInMethods::check_password`].
    pub async fn begin(
        &self,
        origin: &SignInOrigin,
        username: &Username,
        password: &Password,
    ) -> Result<SignInStep, Error> {
        let user = self.methods.check_password(origin, username, password).await?;
        let user = user.ok_or_else(Error::invalid_credentials)?;
        if self.state().locked(&user, self.clock.now()) {
            return Err(Error::user_locked());
        }
        let factors = self.methods.factors(&user).await?;
        self.go_on(origin, user, factors.into())
    }

    /// Sends a one-time code.
    ///
    /// # Errors
    /// `invalid_challenge` or `user_locked`; too many requests after the fifth code of a
    /// challenge; when the code cannot be sent.
    pub async fn send_code(&self, origin: &SignInOrigin, request: &SendOtp) -> Result<(), Error> {
        let (user, id) = (&request.user_id, &request.request.challenge_id);
        let client = origin.client();
        let open = self.state().look(id, user, client, self.clock.now())?;
        let Some(Factor::Otp(deliveries)) = open.factors.front() else {
            return Err(Error::invalid_challenge());
        };
        let wanted = &request.request.delivery_id;
        let delivery = deliveries.iter().find(|delivery| delivery.id == *wanted);
        let delivery = delivery.ok_or_else(|| {
            Error::invalid_request("`delivery_id` is not one of the challenge's deliveries.")
        })?;
        let (code, now) = (self.one_time_code()?, self.clock.now());
        self.state().sending(id, user, client, &code, now)?;
        let sent = self.methods.send_otp(user, delivery, &code).await;
        if sent.is_err() {
            self.state().not_sent(id, &code);
        }
        sent
    }

    /// Checks the answer to a challenge.
    ///
    /// # Errors
    /// `invalid_challenge` or `user_locked`; when the bank cannot tell.
    pub async fn answer(
        &self,
        origin: &SignInOrigin,
        request: ValidateTwoFactor,
    ) -> Result<SignInStep, Error> {
        let (user, answer) = (request.user_id, request.request);
        let (id, client) = (answer.challenge_id(), origin.client());
        let now = self.clock.now();
        let mut open = self.state().look(id, &user, client, now)?;
        if matches!(open.factors.front(), Some(Factor::Otp(_))) && open.code.is_none() {
            // Nothing was sent, so nothing was guessed.
            return Err(Error::invalid_challenge());
        }
        open = self.state().take_try(id, &user, client, now)?;
        let Some(factor) = open.factors.pop_front() else {
            return Err(Error::invalid_challenge());
        };
        let right = self.right(&user, &factor, open.code.as_ref(), &answer).await;
        if !matches!(right, Ok(false)) {
            self.state().give_back(id, &user);
        }
        if !right? {
            if self.state().locked(&user, now) {
                self.methods.locked_out(&user).await;
            }
            return Err(Error::invalid_challenge());
        }
        if !self.state().spend(id) {
            return Err(Error::invalid_challenge());
        }
        self.go_on(origin, user, open.factors)
    }

    /// Returns the next challenge, or the end of the sign-in if every factor was answered.
    fn go_on(
        &self,
        origin: &SignInOrigin,
        user: UserId,
        factors: VecDeque<Factor>,
    ) -> Result<SignInStep, Error> {
        let Some(factor) = factors.front() else {
            self.state().signed_in(&user);
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
        self.state().open(id.clone(), for_state, client, factors, now);
        Ok(SignInStep::Challenge(Challenge::new(user, id, kind)))
    }

    /// Checks the answer to a challenge; the try is taken already.
    async fn right(
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
                let mut state = self.state();
                let step = secret.check(&answer.code, now, state.totp_step(user));
                if let Some(step) = step {
                    state.used_totp(user, step);
                }
                Ok(step.is_some())
            }
            (Factor::Kba(questions), TwoFactorRequest::Answers(request)) => {
                let asked: BTreeSet<_> = questions.iter().map(|question| &question.id).collect();
                let given: BTreeSet<_> = request.answers.iter().map(|a| &a.question_id).collect();
                if asked != given || request.answers.len() != given.len() {
                    return Ok(false);
                }
                self.methods.check_kba(user, &request.answers).await
            }
            _ => Ok(false),
        }
    }

    fn one_time_code(&self) -> Result<OneTimeCode, Error> {
        // The largest multiple of a million; what lies above would favour low codes.
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

    /// Returns a client's response for a step: a challenge, or its token.
    async fn for_client(&self, client: &ClientId, step: SignInStep) -> Result<SignIn, Error> {
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
        self.for_client(client, step).await
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
        self.for_client(client, step).await
    }
}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::NoSuch => Self::invalid_challenge(),
            Closed::Locked => Self::user_locked(),
            Closed::TooManySends => {
                Self::too_many_requests(CHALLENGE_LIFE.to_std().unwrap_or_default())
            }
        }
    }
}

fn new_state(lock_time: TimeDelta) -> State {
    let capacity = NonZeroUsize::new(CAPACITY).unwrap_or(NonZeroUsize::MIN);
    State::new(capacity, lock_time)
}
