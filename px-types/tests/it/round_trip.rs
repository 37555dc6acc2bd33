//! Round trips of the requests and responses of every endpoint of both APIs.

use proptest::prelude::*;
use px_types::{
    endpoint::{codec, codec::ResponseBody, path},
    testing::{Sample, Seed},
};
use std::fmt::Debug;

fn request<E: Sample + Clone + PartialEq + Debug>(seed: u64) {
    let sent = E::request(&mut Seed::new(seed));
    let http = codec::to_http(sent.clone()).unwrap();
    assert_eq!(*http.method(), E::META.method);
    let values = path::match_path(E::META.path, http.uri().path()).unwrap();
    let read: E = codec::from_http(&values, http.uri().query(), http.body()).unwrap();
    assert_eq!(read, sent);
}

fn response<E: Sample<Response: PartialEq + Debug>>(seed: u64) {
    let sent = E::response(&mut Seed::new(seed));
    let bytes = sent.encode();
    let read = E::Response::decode(&bytes).unwrap();
    assert_eq!(read, sent);
    // Equal amounts may differ in scale, so the bytes are compared as well.
    assert_eq!(read.encode(), bytes);
}

macro_rules! round_trips {
    ($($name:ident => $endpoint:ty,)+) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(
                #[test]
                fn $name(seed: u64) {
                    request::<$endpoint>(seed);
                    response::<$endpoint>(seed);
                }
            )+
        }
    };
}

mod partner {
    use super::*;
    px_types::for_each_partner_endpoint!(round_trips);
}

mod plaid {
    use super::*;
    px_types::for_each_plaid_endpoint!(round_trips);
}

#[test]
fn ids_paths_and_names_are_unique() {
    for list in [px_types::endpoint::list::partner(), px_types::endpoint::list::plaid()] {
        for (i, one) in list.iter().enumerate() {
            assert!(!one.summary.is_empty(), "{}", one.id);
            for other in &list[..i] {
                assert_ne!(one.id, other.id);
                assert!(one.path != other.path || one.method != other.method, "{}", one.path);
            }
        }
    }
}
