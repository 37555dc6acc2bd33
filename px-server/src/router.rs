//! Routing of requests to operations, generated from the list of endpoints.

use http::Method;
use px_types::{Meta, endpoint::path::match_path, for_each_partner_endpoint};

macro_rules! operations {
    ($($name:ident => $endpoint:ty,)+) => {
                /// An endpoint of the partner's API, named as in the list of endpoints.
        #[allow(non_camel_case_types, reason = "the names are those of the contract")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Operation {
            $($name,)+
                        /// RFC 8414 metadata, which is not in the contract's list of endpoints.
            metadata,
        }

                /// Returns every endpoint with its description.
        fn endpoints() -> Vec<(Operation, Meta)> {
            vec![$((Operation::$name, <$endpoint as px_types::Endpoint>::META),)+]
        }
    };
}

for_each_partner_endpoint!(operations);

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) operation: Operation,
    pub(crate) meta: Meta,
    /// The path template up to its first parameter.
    literal: &'static str,
    offered: bool,
}

/// The routes of the contract. Routes that the partner does not offer are included, so that
/// `POST /users/auth_token` is 404 instead of being taken for a user with the id `auth_token`.
#[derive(Debug)]
pub(crate) struct Router(Vec<Route>);

/// The route for a method and a path.
#[derive(Debug)]
pub(crate) enum Match<'r> {
    /// An endpoint, with the decoded parameters of its path.
    Found { route: &'r Route, path: Vec<String> },
    /// The path exists with other methods; the value of `Allow`.
    OtherMethods(String),
    /// The path does not exist.
    Nothing,
}

impl Router {
    pub(crate) fn new(offered: impl Fn(Operation) -> bool) -> Self {
        let metadata = Meta::get("metadata", "/.well-known/oauth-authorization-server");
        let routes = endpoints().into_iter().chain([(Operation::metadata, metadata)]);
        Self(
            routes
                .map(|(operation, meta)| Route {
                    operation,
                    literal: meta.path.split('{').next().unwrap_or_default(),
                    meta,
                    offered: offered(operation),
                })
                .collect(),
        )
    }

    pub(crate) fn find(&self, method: &Method, path: &str) -> Match<'_> {
        let mut allowed: Vec<&str> = Vec::new();
        // Most templates differ before their first parameter, so comparing that prefix is
        // cheaper.
        let encoded = path.contains('%');
        for route in &self.0 {
            if !encoded && !path.starts_with(route.literal) {
                continue;
            }
            let Some(values) = match_path(route.meta.path, path) else {
                continue;
            };
            let head = *method == Method::HEAD && route.meta.method == Method::GET;
            let same_method = route.meta.method == *method || head;
            if same_method && !route.offered {
                return Match::Nothing;
            }
            if same_method {
                return Match::Found { route, path: values };
            }
            if !route.offered {
                continue;
            }
            allowed.push(route.meta.method.as_str());
            if route.meta.method == Method::GET {
                allowed.push("HEAD");
            }
        }
        if allowed.is_empty() { Match::Nothing } else { Match::OtherMethods(allowed.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_segment_is_no_user() {
        let router = Router::new(|_| true);
        let Match::Found { route, .. } = router.find(&Method::POST, "/users/auth_token") else {
            panic!("not found");
        };
        assert_eq!(route.operation, Operation::auth_token);
        // A user may be called that: GET reads the user.
        let Match::Found { route, .. } = router.find(&Method::GET, "/users/auth_token") else {
            panic!("not found");
        };
        assert_eq!(route.operation, Operation::user);
    }

    #[test]
    fn other_methods_are_named() {
        let router = Router::new(|operation| operation == Operation::user);
        let Match::OtherMethods(allow) = router.find(&Method::DELETE, "/users/u1") else {
            panic!("not refused");
        };
        assert_eq!(allow, "GET, HEAD");
        assert!(matches!(router.find(&Method::GET, "/users"), Match::Nothing));
        assert!(matches!(router.find(&Method::POST, "/oauth2/token"), Match::Nothing));
        assert!(matches!(router.find(&Method::POST, "/users/auth_token"), Match::Nothing));
        assert!(matches!(router.find(&Method::GET, "/users/u1/2fa"), Match::Nothing));
    }
}
