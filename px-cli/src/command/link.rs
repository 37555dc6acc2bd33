//! `px link`: connects an application, with the user's consent from a browser or with given tokens.

mod browser;

use crate::{
    cli::{Cli, Link},
    context::Context,
    database::IfMissing,
    failure::{Failure, Result},
    output::{print, print_json, say},
    partners::{FilePartners, Institution},
};
use chrono::TimeDelta;
use px_client::oauth::TokenSet;
use px_items::{
    applications::FixedApplications,
    connection::Connection,
    items::{Items, LinkedApplication},
    store::UnlinkedTokens,
    tickets::{SessionToken, Tickets},
};
use px_types::{UserId, model::application_details::Application};
use serde::Serialize;
use std::{io::Read as _, path::Path, sync::Arc};

/// Maximum size of a file with tokens, in bytes.
const MAX_TOKENS_FILE_BYTES: u64 = 1 << 20;
/// Time for which the tokens of a failed link are stored.
const RESUME_LIFETIME: TimeDelta = TimeDelta::hours(24);

#[derive(Serialize)]
struct LinkLine<'a> {
    item_id: &'a str,
    access_token: &'a str,
    created: bool,
    repaired: bool,
}

pub(crate) async fn run(cli: &Cli, link: &Link) -> Result<()> {
    let partners = FilePartners::read(&cli.common)?;
    let institution = partners.get(&link.institution)?;
    let given = link.tokens.as_deref().map(read_tokens).transpose()?;
    // Before the user signs in, so that no sign-in is wasted if the database cannot be opened.
    let context = Context::open(&cli.common, IfMissing::Create).await?;
    let items = Items::builder(context.store.clone())
        .clock(context.clock.clone())
        // The component that sends webhooks decides whether private addresses are allowed.
        .webhooks(px_items::webhook::UrlPolicy::Anywhere)
        // Its name goes into the notification to the institution.
        .applications(Arc::new(FixedApplications::new().with(application(link))))
        .build();
    let tickets = items.tickets();
    let (tokens, stored) = match (given, &link.resume, &link.redirect_uri) {
        (Some(tokens), ..) => (tokens, None),
        (None, Some(resume), _) => {
            let token = SessionToken::new(resume.as_str());
            (resumed(&tickets, &token, link).await?, Some(token))
        }
        (None, None, Some(redirect)) => {
            let tokens = browser::authorize(institution, link, redirect, &context).await?;
            // The code cannot be used again, so its tokens are stored before anything else.
            let stored =
                UnlinkedTokens::new(link.institution.clone(), tokens.clone(), context.now());
            let stored = tickets.store_tokens(&stored, RESUME_LIFETIME).await;
            (
                tokens,
                Some(stored.map_err(|e| Failure::because("cannot store the tokens", &e))?.token),
            )
        }
        // clap requires one of them.
        (None, None, None) => {
            return Err(Failure::usage("give --redirect-uri, --tokens or --resume"));
        }
    };
    let linked = connect(institution, link, &context, (&items, tokens)).await;
    let linked = match (linked, stored) {
        (Ok(linked), Some(stored)) => {
            // If this fails, the stored tokens expire by themselves.
            let _ = tickets.end_tokens(&stored).await;
            linked
        }
        (Ok(linked), None) => linked,
        (Err(failure), Some(stored)) => {
            let next = "the tokens are stored for 24 hours; to continue, use --resume";
            return Err(failure.and(format_args!("{next} {}", stored.expose())));
        }
        (Err(failure), None) => return Err(failure),
    };
    let line = LinkLine {
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
            "The Item is new: `px sync` or `px run` fetches its data. \
             The access token belongs to the application and is shown only once."
        }
        (_, true) => "The Item is repaired: `px sync` or `px run` updates it.",
        _ => {
            "The application was connected to an existing Item. \
             The access token belongs to the application and is shown only once."
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

/// Returns the tokens that an earlier link stored.
async fn resumed(tickets: &Tickets, token: &SessionToken, link: &Link) -> Result<TokenSet> {
    let stored = tickets.peek_tokens(token).await;
    let stored = stored.map_err(|e| Failure::because("cannot read the tokens", &e))?;
    let stored = stored.filter(|stored| stored.institution_id == link.institution);
    let stored = stored.ok_or_else(|| {
        Failure::not_found("no such tokens of the institution are stored; sign the user in again")
    })?;
    Ok(stored.tokens)
}

/// Returns the application as it is shown at the institution.
fn application(link: &Link) -> Application {
    let id = &link.application;
    let name = link.application_name.as_deref().unwrap_or(id.as_str());
    Application::new(id.clone(), name)
}

/// Returns the user of the tokens: from the option, the tokens, or the institution.
async fn user(institution: &Institution, link: &Link, tokens: &TokenSet) -> Result<UserId> {
    if let (Some(given), Some(named)) = (&link.user_id, &tokens.user_id)
        && given != named
    {
        return Err(Failure::usage(
            "--user-id names another user than the tokens do; leave it out",
        ));
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

/// Reads tokens from a file or standard input.
fn read_tokens(file: &Path) -> Result<TokenSet> {
    let mut text = Vec::new();
    let (name, read) = if file == Path::new("-") {
        (
            "standard input".to_owned(),
            std::io::stdin().take(MAX_TOKENS_FILE_BYTES).read_to_end(&mut text),
        )
    } else {
        let read = std::fs::File::open(file)
            .and_then(|file| file.take(MAX_TOKENS_FILE_BYTES).read_to_end(&mut text));
        (file.display().to_string(), read)
    };
    read.map_err(|e| Failure::because(format!("cannot read tokens from {name}"), &e))?;
    // The reader's error contains positions and types but no values.
    serde_json::from_slice(&text).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        Failure::usage(format!(
            "{name} does not contain tokens (line {line}, column {column}); \
             an object with access_token and issued_at is required, see `px link --help`"
        ))
    })
}
