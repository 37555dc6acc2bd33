//! Tests that every form of Link is accepted from its own page only.

use crate::{
    browser::{AWAY, Browser, Page},
    support::{World, link_request},
};
use demo_bank::scenario::QUESTIONS;
use serde_json::json;
use std::collections::BTreeSet;

/// Forges every form of a page, in every way. The visit must not change.
async fn forge(
    browser: &mut Browser,
    page: &Page,
    other: &str,
    forged_forms: &mut BTreeSet<String>,
) {
    let before = browser.open(page.url.as_str()).await;
    let forms = before.forms();
    assert!(!forms.is_empty(), "{}", before.html);
    for form in forms {
        let url = page.url.join(&form.action).unwrap();
        let with = |csrf: Option<&str>| {
            // Fields that would continue the visit if they were accepted.
            let mut fields: Vec<_> = [
                ("institution_id", "ins_oldtown"),
                ("username", "user_good"),
                ("password", "pass_good"),
                ("delivery_id", "sms-1"),
                ("decision", "allow"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
            let accounts = before.values("account_id").into_iter();
            fields.extend(accounts.map(|id| ("account_id".to_owned(), id)));
            fields.extend(csrf.map(|csrf| ("csrf".to_owned(), csrf.to_owned())));
            fields
        };
        let own = form.hidden.iter().find(|(name, _)| name == "csrf").map(|(_, csrf)| &**csrf);
        assert!(own.is_some(), "{} has a token", form.action);
        for (csrf, headers) in [
            (None, [].as_slice()),
            (Some(""), &[]),
            (Some("forged"), &[]),
            (Some(other), &[]),
            (own, &[("sec-fetch-site", "cross-site")]),
            (own, &[("sec-fetch-site", "same-site")]),
        ] {
            let response = browser.post(&url, &with(csrf), headers).await;
            assert_eq!(response.status, 403, "{} {csrf:?} {headers:?}", form.action);
        }
        // A page of this visit, in a browser that has not opened it.
        let stranger = Browser::new().post(&url, &with(own), &[]).await;
        assert_eq!(stranger.status, 403, "{} by a stranger", form.action);
        let after = browser.open(page.url.as_str()).await;
        assert_eq!(after.html, before.html, "{} left the visit as it was", form.action);
        forged_forms.insert(form.action.rsplit('/').next().unwrap().to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_form_changes_nothing_on_any_page() {
    let world = World::new().await;
    let mut forged_forms = BTreeSet::new();
    let mut browser = Browser::new();
    let other = browser.open(&world.link_page(&world.link_token("tax-app").await)).await;
    let other = other.form("/begin").hidden[0].1.clone();
    let open = async |browser: &mut Browser| {
        let token = world.link_token("budget-app").await;
        browser.open(&world.link_page(&token)).await
    };

    // A password and a code.
    let page = open(&mut browser).await;
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let page = browser.submit(&page, "/begin", &[]).await;
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let page = browser.submit(&page, "/bank", &[("institution_id", "ins_oldtown")]).await;
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let typed = [("username", "user_otp"), ("password", "pass_good")];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let page = browser.submit(&page, "/delivery", &[("delivery_id", "email-1")]).await;
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let sent = world.sent.lock().unwrap().last().unwrap().clone();
    let code = sent.rsplit(' ').next().unwrap();
    let page = browser.submit(&page, "/code", &[("code", code)]).await;
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let account = page.values("account_id")[0].clone();
    let page = browser.submit(&page, "/accounts", &[("account_id", &account)]).await;
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let away = browser.submit(&page, "/finish", &[]).await;
    assert!(away.url.as_str().starts_with(AWAY), "the forged forms did not use up the visit");

    // Questions.
    let page = open(&mut browser).await;
    let page = browser.submit(&page, "/begin", &[]).await;
    let page = browser.submit(&page, "/bank", &[("institution_id", "ins_oldtown")]).await;
    let typed = [("username", "user_kba"), ("password", "pass_good")];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let answers: Vec<_> = QUESTIONS.iter().map(|(.., answer)| *answer).collect();
    let typed = [("answer-0", answers[0]), ("answer-1", answers[1])];
    let page = browser.submit(&page, "/answers", &typed).await;
    assert!(page.html.contains("Select accounts"), "{}", page.html);

    // Consent alone.
    let (access, user) = world.imported("larkfield-bank", "user_good").await;
    let body = link_request(json!({
        "access_token": access, "user": { "client_user_id": user },
        "cross_app_item_add": { "target_application_token": "target-sandbox-larkfield-budget-app" },
    }));
    let made = world.ok("larkfield-bank", "/link/token/create", body).await;
    let mut page = browser.open(&world.link_page(made["link_token"].as_str().unwrap())).await;
    while page.html.contains("Getting your accounts") {
        page = browser.open(page.url.as_str()).await;
    }
    forge(&mut browser, &page, &other, &mut forged_forms).await;
    let body = json!({ "access_token": access });
    let listed = world.ok("larkfield-bank", "/item/application/list", body).await;
    assert_eq!(listed["applications"], json!([]), "nothing was connected");

    let all = [
        "accounts",
        "another-code",
        "answers",
        "back",
        "bank",
        "begin",
        "cancel",
        "code",
        "consent",
        "delivery",
        "finish",
        "sign-in",
    ];
    assert_eq!(forged_forms, all.map(str::to_owned).into(), "every form was tested");
    world.stop().await;
}
