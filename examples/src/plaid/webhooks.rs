//! The transport of a demo's webhooks: to loopback and public addresses only.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use px_core::{HttpLimits, HttpTransport, TransportError, is_loopback_host};

/// A transport that sends to loopback addresses and `localhost` through one transport, and to all
/// other hosts through another, which must reach public addresses only.
#[derive(Debug)]
pub(super) struct LocalOrPublic<L, P> {
    local: L,
    public: P,
}

impl<L, P> LocalOrPublic<L, P> {
    pub(super) fn new(local: L, public: P) -> Self {
        Self { local, public }
    }
}

#[async_trait]
impl<L: HttpTransport, P: HttpTransport> HttpTransport for LocalOrPublic<L, P> {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        match request.uri().host().is_some_and(is_loopback_host) {
            true => self.local.send(request, limits).await,
            false => self.public.send(request, limits).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Named(&'static str);

    #[async_trait]
    impl HttpTransport for Named {
        async fn send(
            &self,
            _: Request<Bytes>,
            _: &HttpLimits,
        ) -> Result<Response<Bytes>, TransportError> {
            Ok(Response::new(Bytes::from_static(self.0.as_bytes())))
        }
    }

    #[tokio::test]
    async fn the_network_of_this_machine_is_reached_by_no_webhook() {
        let transport = LocalOrPublic::new(Named("local"), Named("public"));
        for (url, transport_name) in [
            ("http://127.0.0.1:9200/webhooks", "local"),
            ("http://[::1]:9200/", "local"),
            ("http://localhost/", "local"),
            ("http://169.254.169.254/latest/meta-data", "public"),
            ("http://10.0.0.1/", "public"),
            ("http://[fe80::1]/", "public"),
            ("http://localhost.example/", "public"),
            ("http://127.0.0.1.example/", "public"),
            ("https://app.example/", "public"),
        ] {
            let request = Request::post(url).body(Bytes::new()).unwrap();
            let response = transport.send(request, &HttpLimits::default()).await.unwrap();
            assert_eq!(&**response.body(), transport_name.as_bytes(), "{url}");
        }
    }
}
