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
use px_client::oauth::TokenSet;
use px_items::{applications::FixedApplications, connection::Connection, items::Items};
use px_types::{UserId, model::application_details::Application};
use serde::Serialize;
use std::{io::Read as _, path::Path, sync::Arc};

/// The most bytes of a file with tokens.
const MOST: u64 = 1 << 20;

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
    let tokens = match (given, &link.redirect_uri) {
        (Some(tokens), _) => tokens,
        (None, Some(redirect)) => browser::authorize(institution, link, redirect, &context).await?,
        // clap asks for one of them.
        (None, None) => return Err(Failure::usage("give --redirect-uri or --tokens")),
    };
    let user = user(institution, link, &tokens).await?;
    let mut connection =
        Connection::new(link.application.clone(), link.product.iter().cloned(), context.now());
    connection.webhook.clone_from(&link.webhook);
    connection.new_accounts = !link.no_new_accounts;
    if !link.account.is_empty() {
        connection.accounts = Some(link.account.iter().cloned().collect());
    }
    let items = Items::builder(context.store.clone())
        .clock(context.clock.clone())
        // Whether private addresses are reached is said where webhooks are sent.
        .webhooks(px_items::webhook::Allow::Anywhere)
        // With it the institution is told that the application is connected.
        .applications(Arc::new(FixedApplications::new().with(application(link))))
        .build();
    let linked = items
        .link(&link.institution, &user, tokens, connection)
        .await
        .map_err(|e| Failure::because("cannot link", &e))?;
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
