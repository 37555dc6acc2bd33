//! `px review`, `px accept`, `px remap`: data on hold, and decisions about it.

use crate::{
    cli::{Account, Decide, Review as Options, Scope},
    context::Context,
    failure::{Failure, Result},
    output::{age, count, print, print_json, print_table, say, table},
};
use px_items::{
    items::{Items, ItemsError, ItemsErrorKind, ReviewOutcome, ReviewScope},
    review::Subject,
    store::Review,
};
use px_types::ItemId;
use serde::Serialize;

/// Number of Items whose entries are read at a time.
const PAGE: usize = 200;

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    item_id: &'a str,
    institution_id: &'a str,
    #[serde(flatten)]
    review: &'a Review,
}

/// What became of a decision, as JSON.
#[derive(Serialize)]
struct OutcomeLine<'a> {
    items: u64,
    busy: &'a [ItemId],
}

/// Lists what waits and what can be taken back, or takes the last decision back.
pub(crate) async fn review(context: &Context, options: &Options) -> Result<()> {
    if options.undo {
        let Some(scope) = scope(&options.scope) else {
            return Err(Failure::usage("--undo wants an ITEM or --institution"));
        };
        let outcome = items(context).undo(&scope, &options.by).await;
        return ended(context, &scope, outcome, "taken back");
    }
    let institution = options.scope.institution.as_ref();
    let only = options.scope.item.as_ref();
    if let Some(item) = only {
        context.item(item).await?;
    }
    let items = items(context);
    let mut after: Option<ItemId> = None;
    let (mut shown, mut rows) = (0, table(&["Item", "Institution", "On hold", "Since", "Decided"]));
    loop {
        let page = items.reviews(institution, after.as_ref(), PAGE).await;
        let page = page.map_err(|error| Failure::because("cannot list", &error))?;
        for review in &page {
            if only.is_some_and(|only| review.item_id != *only) {
                continue;
            }
            shown += 1_u64;
            if context.json {
                let (item_id, institution_id) =
                    (review.item_id.as_str(), review.institution_id.as_str());
                print_json(&Line { item_id, institution_id, review })?;
                continue;
            }
            rows.add_row([
                review.item_id.to_string(),
                review.institution_id.to_string(),
                what(review),
                format!("{} ago", age(review.since, context.now())),
                decided(review),
            ]);
        }
        match page.into_iter().last() {
            Some(last) => after = Some(last.item_id),
            None => break,
        }
    }
    if context.json {
        return Ok(());
    }
    if shown == 0 {
        say("nothing waits for a decision");
        return Ok(());
    }
    print_table(&rows)?;
    say("`px accept`: it is what it seems, new data. `px remap`: it is what the Item has, under \
         other ids. `px review --undo`: take the last decision back");
    Ok(())
}

/// Decides that what is on hold is new.
pub(crate) async fn accept(context: &Context, decide: &Decide) -> Result<()> {
    let items = items(context);
    if let (Some(item), Some(account)) = (&decide.scope.item, &decide.account) {
        let decided = items.accept_account(item, account).await;
        return one(context, item, decided, "accepted");
    }
    let Some(scope) = scope(&decide.scope) else { return Err(no_scope()) };
    let outcome = items.accept(&scope, &decide.by).await;
    ended(context, &scope, outcome, "accepted")
}

/// Decides that what is on hold is what the Item has, under other ids.
pub(crate) async fn remap(context: &Context, decide: &Decide, onto: &Account) -> Result<()> {
    let items = items(context);
    if let (Some(item), Some(account), Some(onto)) =
        (&decide.scope.item, &decide.account, &onto.onto)
    {
        let decided = items.remap_account(item, account, onto).await;
        return one(context, item, decided, "remapped");
    }
    let Some(scope) = scope(&decide.scope) else { return Err(no_scope()) };
    let outcome = items.remap(&scope, &decide.by).await;
    ended(context, &scope, outcome, "remapped")
}

fn items(context: &Context) -> Items {
    Items::builder(context.store.clone()).clock(context.clock.clone()).build()
}

fn scope(scope: &Scope) -> Option<ReviewScope> {
    match (&scope.item, &scope.institution) {
        (Some(item), _) => Some(ReviewScope::Item(item.clone())),
        (None, Some(institution)) => Some(ReviewScope::Institution(institution.clone())),
        (None, None) => None,
    }
}

fn no_scope() -> Failure {
    Failure::usage("name an ITEM or an --institution; `px review` lists what waits")
}

fn one(
    context: &Context,
    item: &ItemId,
    decided: std::result::Result<(), ItemsError>,
    verdict: &str,
) -> Result<()> {
    let scope = ReviewScope::Item(item.clone());
    let outcome = decided.map(|()| {
        let mut outcome = ReviewOutcome::default();
        outcome.items = 1;
        outcome
    });
    ended(context, &scope, outcome, verdict)
}

fn ended(
    context: &Context,
    scope: &ReviewScope,
    outcome: std::result::Result<ReviewOutcome, ItemsError>,
    verdict: &str,
) -> Result<()> {
    let outcome = outcome.map_err(|error| match error.kind() {
        ItemsErrorKind::ItemNotFound => Failure::not_found("there is no such Item; `px items`"),
        _ => Failure::because("cannot decide", &error),
    })?;
    if context.json {
        return print_json(&OutcomeLine { items: outcome.items, busy: &outcome.busy });
    }
    let number = count(outcome.items, "Item");
    match scope {
        ReviewScope::Item(item) => {
            print(format_args!("{item}: {verdict}; the next update of it carries it out"))?;
        }
        ReviewScope::Institution(institution) => {
            print(format_args!("{institution}: {number} {verdict}"))?;
        }
    }
    if !outcome.busy.is_empty() {
        let busy = count(outcome.busy.len(), "Item");
        say(format_args!("{busy} could not be reached; their next updates carry it out"));
    }
    Ok(())
}

fn what(review: &Review) -> String {
    match &review.subject {
        Subject::Transactions if review.rows > 0 => {
            format!("{} under other ids", count(review.rows, "transaction"))
        }
        Subject::Transactions => "transactions under other ids".to_owned(),
        Subject::Customer => "a response that may be another customer's".to_owned(),
        Subject::Account { held, like } => format!("account {held}, which resembles {like}"),
        _ => "something of a newer version".to_owned(),
    }
}

fn decided(review: &Review) -> String {
    match &review.decision {
        Some(decision) => format!("{} by {}", decision.verdict.as_str(), decision.by),
        None => "waits".to_owned(),
    }
}
