//! `px link`: connects an application, with the user's consent got in a browser or elsewhere.

mod browser;

use crate::{
    cli::{Cli, Link},
    context::Context,
    database::Make,
    failure::{Failure, Result},
    output::{print, print_json, say},
    partners::{Institution, Listed},
};
use chrono::TimeDelta;
use px_client::oauth::TokenSet;
use px_items::{
    applications::FixedApplications,
    connection::Connection,
    items::{Items, LinkedApplication},
    store::KeptTokens,
    tickets::{SessionToken, Tickets},
};
use px_types::{UserId, model::application_details::Application};
use serde::Serialize;
use std::{io::Read as _, path::Path, sync::Arc};

/// The most bytes of a file with tokens.
const MOST: u64 = 1 << 20;
/// Time for which tokens of a link that failed are kept.
const RESUME_LIFE: TimeDelta = TimeDelta::hours(24);

#[derive(Serialize)]
struct Line<'a> {
    item_id: &'a str,
    access_token: &'a str,
    created: bool,
    repaired: bool,
}

pub(crate) async fn run(cli: &Cli, link: &Link) -> Result<()> {
    let partners = Listed::read(&cli.common)?;
    let institution = partners.get(&link.institution)?;
    let given = link.tokens.as_deref().map(read_tokens).transpose()?;
    // Before the user is asked: nobody signs in for a database that does not open.
    let context = Context::open(&cli.common, Make::IfMissing).await?;
    let items = Items::builder(context.store.clone())
        .clock(context.clock.clone())
        // Whether private addresses are reached is said where webhooks are sent.
        .webhooks(px_items::webhook::Allow::Anywhere)
        // With it the institution is told that the application is connected.
        .applications(Arc::new(FixedApplications::new().with(application(link))))
        .build();
    let tickets = items.tickets();
    let (tokens, kept) = match (given, &link.resume, &link.redirect_uri) {
        (Some(tokens), ..) => (tokens, None),
        (None, Some(resume), _) => {
            let token = SessionToken::new(resume.as_str());
            (resumed(&tickets, &token, link).await?, Some(token))
        }
        (None, None, Some(redirect)) => {
            let tokens = browser::authorize(institution, link, redirect, &context).await?;
            // The code served once: what it gave is stored before anything is asked or judged.
            let kept = KeptTokens::new(link.institution.clone(), tokens.clone(), context.now());
            let kept = tickets.keep_tokens(&kept, RESUME_LIFE).await;
            (tokens, Some(kept.map_err(|e| Failure::because("cannot keep the tokens", &e))?.token))
        }
        // clap asks for one of them.
        (None, None, None) => {
            return Err(Failure::usage("give --redirect-uri, --tokens or --resume"));
        }
    };
    let linked = connect(institution, link, &context, (&items, tokens)).await;
    let linked = match (linked, kept) {
        (Ok(linked), Some(kept)) => {
            // If it stays, it ends by itself.
            let _ = tickets.end_tokens(&kept).await;
            linked
        }
        (Ok(linked), None) => linked,
        (Err(failure), Some(kept)) => {
            let next = "the tokens are kept for 24 hours, go on with the same and --resume";
            return Err(failure.and(format_args!("{next} {}", kept.expose())));
        }
        (Err(failure), None) => return Err(failure),
    };
    let line = Line {
        item_id: linked.item_id.as_str(),
        access_token: linked.access_token.expose(),
        created: linked.created,
        repaired: linked.repaired,
    };
    if context.json {
        return print_json(&line);
    }
    print(format_args!("item_id       {}", line.item_id))?;
    print(format_args!("access_token  {}", line.access_token))?;
    say(match (linked.created, linked.repaired) {
        (true, _) => {
            "The Item is new: `px sync` or `px run` fetches it. \
                      The access token is the application's; it is shown this once."
        }
        (_, true) => "The Item is repaired: `px sync` or `px run` brings it up to date.",
        _ => {
            "The application joined an Item that was there. \
              The access token is the application's; it is shown this once."
        }
    });
    Ok(())
}

async fn connect(
    institution: &Institution,
    link: &Link,
    context: &Context,
    (items, tokens): (&Items, TokenSet),
) -> Result<LinkedApplication> {
    let user = user(institution, link, &tokens).await?;
    let mut connection =
        Connection::new(link.application.clone(), link.product.iter().cloned(), context.now());
    connection.webhook.clone_from(&link.webhook);
    connection.new_accounts = !link.no_new_accounts;
    if !link.account.is_empty() {
        connection.accounts = Some(link.account.iter().cloned().collect());
    }
    let linked = items.link(&link.institution, &user, tokens, connection).await;
    linked.map_err(|e| Failure::because("cannot link", &e))
}

/// The tokens that an earlier link got.
async fn resumed(tickets: &Tickets, token: &SessionToken, link: &Link) -> Result<TokenSet> {
    let kept = tickets.peek_tokens(token).await;
    let kept = kept.map_err(|e| Failure::because("cannot read the tokens", &e))?;
    let kept = kept.filter(|kept| kept.institution_id == link.institution);
    let kept = kept.ok_or_else(|| {
        Failure::not_found("no such tokens of the institution are kept; sign the user in again")
    })?;
    Ok(kept.tokens)
}

/// The application as the institution shows it.
fn application(link: &Link) -> Application {
    let id = &link.application;
    let name = link.application_name.as_deref().unwrap_or(id.as_str());
    Application::new(id.clone(), name)
}

/// Whose tokens they are: as told, as the tokens say, or as the institution says.
async fn user(institution: &Institution, link: &Link, tokens: &TokenSet) -> Result<UserId> {
    if let (Some(told), Some(said)) = (&link.user_id, &tokens.user_id)
        && told != said
    {
        return Err(Failure::usage("--user-id is another user than the tokens'; leave it away"));
    }
    if let Some(user) = link.user_id.as_ref().or(tokens.user_id.as_ref()) {
        return Ok(user.clone());
    }
    if let Some(defect) = tokens.defect(None) {
        return Err(Failure::new(defect.to_string()));
    }
    let client = institution.partner.client.with_token(tokens.access_token.clone());
    Ok(client.current_user().await?.user_id)
}

/// Tokens that were got elsewhere, out of a file or standard input.
fn read_tokens(file: &Path) -> Result<TokenSet> {
    let mut text = Vec::new();
    let (name, read) = if file == Path::new("-") {
        ("standard input".to_owned(), std::io::stdin().take(MOST).read_to_end(&mut text))
    } else {
        let read =
            std::fs::File::open(file).and_then(|file| file.take(MOST).read_to_end(&mut text));
        (file.display().to_string(), read)
    };
    read.map_err(|e| Failure::because(format!("cannot read tokens from {name}"), &e))?;
    // The error of the reader names places and types, and no value.
    serde_json::from_slice(&text).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        Failure::usage(format!(
            "{name} has no tokens (line {line}, column {column}); \
             it must be an object with access_token and issued_at, see `px link --help`"
        ))
    })
}
