//! Notifications from Plaid: verified, and delivered to the bank once.

use super::notification_ids::NotificationIds;
use super::{ApiResult, Routed, ServiceResponse, ServiceState, read, response::ApiResponse};
use crate::{
    ErrorKind,
    call::{Incoming, observe, request},
    guard::CallerAddr,
    webhook::{ReplayState, Verifier, VerifyError, WebhookErrorKind},
};
use px_types::{endpoint::codec, partner::NotifyApplicationLinked, webhook::VERIFICATION_HEADER};
use std::{fmt, sync::Arc};

/// The verifier of notifications, and those that were delivered.
#[derive(Debug)]
pub(super) struct Notifications {
    verifier: Arc<Verifier>,
    ids: NotificationIds,
}

impl Notifications {
    pub(super) fn new(verifier: Arc<Verifier>) -> Self {
        Self { verifier, ids: NotificationIds::new() }
    }
}

impl ServiceState {
    /// Verifies the signature, which covers the raw body, before it parses the body.
    pub(super) async fn application_linked<B>(
        &self,
        routed: Routed<'_>,
        body: B,
    ) -> ApiResult<ServiceResponse>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let notifications = self.notifications.as_ref().ok_or_else(ApiResponse::not_found)?;
        let Notifications { verifier, ids } = notifications;
        let Routed { incoming, path, .. } = routed;
        let headers = &incoming.parts.headers;
        let signature = request::one_text(headers, VERIFICATION_HEADER);
        // A request without a plausible signature is refused before its body is read.
        let form = verifier.check_form(signature.unwrap_or_default());
        form.map_err(|error| self.signature_error(&error, &incoming))?;
        let body = request::read_body(body, self.limits.body, &incoming.budget).await?;
        // If the handler fails, the signature is forgotten, so that the next attempt is
        // delivered.
        let address = CallerAddr::of(&incoming.parts.extensions);
        let begun = match verifier.begin(signature.unwrap_or_default(), &body, address).await {
            Ok(begun) => begun,
            // It was delivered before. Any status but 200 would make the sender repeat
            // it.
            Err(error) if error.kind() == WebhookErrorKind::Replay => {
                return Ok(ApiResponse::ok(&codec::Empty).into());
            }
            Err(error) => return Err(self.signature_error(&error, &incoming)),
        };
        request::require_json(headers)?;
        let request = read::<NotifyApplicationLinked>(&path, &incoming, &body)?;
        // The same notification can be signed without a signature id, or again with another
        // key. The notification's own id decides.
        let id = request.notification.notification_id.clone();
        let delivery = match ids.begin(id.as_str(), self.clock.now()) {
            Ok(delivery) => delivery,
            Err(ReplayState::Done) => return Ok(ApiResponse::ok(&codec::Empty).into()),
            Err(ReplayState::Pending) => {
                return Err(ApiResponse::from_error(
                    &crate::Error::unavailable(),
                    self.clock.now(),
                ));
            }
        };
        let delivered = self.partner.application_linked(request.notification).await;
        delivered.map_err(|error| {
            if error.kind() == ErrorKind::NotOffered {
                tracing::error!(
                    request_id = &*incoming.request_id,
                    "a verified notification was not delivered: the service has a verifier, \
                     but `Partner::application_linked` is not implemented"
                );
            }
            self.partner_error(&error, &incoming.request_id)
        })?;
        delivery.done();
        begun.done();
        Ok(ApiResponse::ok(&codec::Empty).into())
    }

    /// Returns the response for a signature that cannot be accepted. The request carries no
    /// token, so this 401 ends none.
    fn signature_error(&self, error: &VerifyError, incoming: &Incoming) -> ApiResponse {
        observe::failed(error, &incoming.request_id);
        match error.kind() {
            WebhookErrorKind::KeyUnavailable | WebhookErrorKind::Pending => {
                ApiResponse::from_error(&crate::Error::unavailable(), self.clock.now())
            }
            _ => ApiResponse::invalid_signature(&error.to_string()),
        }
    }
}
