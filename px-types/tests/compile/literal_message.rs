use px_types::{model::identity::Identity, IdentityId};

fn main() {
    let _ = Identity {
        id: IdentityId::new("identity-1").unwrap(),
        name: "Ada Lovelace".to_owned(),
        email: None,
        names: vec![],
        emails: vec![],
        phone_numbers: vec![],
        addresses: vec![],
    };
}
