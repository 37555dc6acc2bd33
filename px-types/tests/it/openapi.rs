//! The generated documents are up to date: the OpenAPI files and the README's table of endpoints.
//!
//! `UPDATE=1 cargo test -p px-types --features openapi` regenerates them.

#[cfg(feature = "openapi")]
use px_types::endpoint::codec;
use px_types::endpoint::list;
#[cfg(feature = "openapi")]
use serde_json::Value;
use std::{env, fs, path::PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn update() -> bool {
    env::var_os("UPDATE").is_some_and(|value| value == "1")
}

#[cfg(feature = "openapi")]
fn check(name: &str, document: &Value) {
    let path = root().join("openapi").join(name);
    let on_disk: Option<Value> =
        fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if on_disk.as_ref() == Some(document) {
        return;
    }
    if update() {
        fs::write(&path, format!("{document:#}\n")).unwrap();
        return;
    }
    panic!(
        "openapi/{name} is out of date: run `UPDATE=1 cargo test -p px-types --features openapi`"
    );
}

#[test]
#[cfg(feature = "openapi")]
fn openapi_documents_are_up_to_date() {
    check("partner.json", &px_types::openapi::partner());
    check("plaid.json", &px_types::openapi::plaid());
}

#[test]
#[cfg(feature = "openapi")]
fn the_documents_say_what_the_endpoints_do() {
    let partner = px_types::openapi::partner();
    let operation = &partner["paths"]["/users/{user_id}/transactions"]["get"];
    let parameter = |name: &str| {
        let parameters = operation["parameters"].as_array().unwrap();
        parameters.iter().find(|p| p["name"] == name).unwrap().clone()
    };
    assert_eq!(parameter("limit")["schema"]["maximum"], 500);
    assert_eq!(parameter("limit")["schema"]["default"], 100);
    for status in ["200", "400", "401", "403", "404", "429", "500", "503"] {
        assert!(operation["responses"][status].is_object(), "{status}");
    }
    // All query parameters that an endpoint writes are documented.
    let query = "start_date=2024-01-01&end_date=2024-01-02&cursor=c&limit=5";
    let request: px_types::partner::ListTransactions =
        codec::from_http(&["u".into()], Some(query), b"").unwrap();
    let http = codec::to_http(request).unwrap();
    for pair in http.uri().query().unwrap().split('&') {
        parameter(pair.split('=').next().unwrap());
    }
    let transaction = &partner["components"]["schemas"]["Transaction"];
    let required = transaction["required"].as_array().unwrap();
    assert!(required.contains(&"settled_at".into()) && required.contains(&"description".into()));
    assert!(!required.contains(&"code".into()));
    let description = &transaction["properties"]["description"]["type"];
    assert_eq!(*description, serde_json::json!(["string", "null"]));
}

#[test]
fn the_table_of_endpoints_in_the_readme_is_up_to_date() {
    const BEGIN: &str = "<!-- endpoints:begin -->";
    const END: &str = "<!-- endpoints:end -->";
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path)
        .unwrap_or_else(|_| panic!("README.md is missing: it holds the table of endpoints"));
    let (before, rest) = readme.split_once(BEGIN).unwrap_or_else(|| {
        panic!(
            "README.md has no line `{BEGIN}`: the table of endpoints stands between it and `{END}`"
        )
    });
    let (found, after) = rest
        .split_once(END)
        .unwrap_or_else(|| panic!("README.md has `{BEGIN}` and no `{END}` after it"));
    let wanted = format!(
        "\n\nWhat a partner serves:\n\n{}\nWhat Plaid serves:\n\n{}\n",
        list::table(&list::partner()),
        list::table(&list::plaid())
    );
    if found == wanted {
        return;
    }
    if update() {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    panic!(
        "the table of endpoints in README.md is out of date: run `UPDATE=1 cargo test -p px-types --features openapi`"
    );
}
