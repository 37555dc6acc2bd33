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

/// Number of Items per page.
const PAGE_ITEMS: usize = 200;

/// A line of `--json`.
#[derive(Serialize)]
struct ReviewLine<'a> {
    item_id: &'a str,
    institution_id: &'a str,
    #[serde(flatten)]
    review: &'a Review,
}

/// The result of a decision, as JSON.
#[derive(Serialize)]
struct OutcomeLine<'a> {
    items: u64,
    busy: &'a [ItemId],
}

/// Lists data on hold and decisions that can be undone, or undoes the last decision.
pub(crate) async fn review(context: &Context, options: &Options) -> Result<()> {
    if options.undo {
        let Some(scope) = scope(&options.scope) else {
            return Err(Failure::usage("--undo requires an ITEM or --institution"));
        };
        let outcome = items(context).undo(&scope, &options.by).await;
        return print_outcome(context, &scope, outcome, "undone");
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
        let page = items.reviews(institution, after.as_ref(), PAGE_ITEMS).await;
        let page = page.map_err(|error| Failure::because("cannot list", &error))?;
        for review in &page {
            if only.is_some_and(|only| review.item_id != *only) {
                continue;
            }
            shown += 1_u64;
            if context.json {
                let (item_id, institution_id) =
                    (review.item_id.as_str(), review.institution_id.as_str());
                print_json(&ReviewLine { item_id, institution_id, review })?;
                continue;
            }
            rows.add_row([
                review.item_id.to_string(),
                review.institution_id.to_string(),
                subject(review),
                format!("{} ago", age(review.since, context.now())),
                decision(review),
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
        say("no data waits for a decision");
        return Ok(());
    }
    print_table(&rows)?;
    say("`px accept`: the data is new. `px remap`: it is the Item's existing data under new ids. \
         `px review --undo`: undo the last decision");
    Ok(())
}

/// Decides that data on hold is new.
pub(crate) async fn accept(context: &Context, decide: &Decide) -> Result<()> {
    let items = items(context);
    if let (Some(item), Some(account)) = (&decide.scope.item, &decide.account) {
        let decided = items.accept_account(item, account).await;
        return print_one(context, item, decided, "accepted");
    }
    let Some(scope) = scope(&decide.scope) else { return Err(no_scope()) };
    let outcome = items.accept(&scope, &decide.by).await;
    print_outcome(context, &scope, outcome, "accepted")
}

/// Decides that data on hold is existing data of the Item under new ids.
pub(crate) async fn remap(context: &Context, decide: &Decide, onto: &Account) -> Result<()> {
    let items = items(context);
    if let (Some(item), Some(account), Some(onto)) =
        (&decide.scope.item, &decide.account, &onto.onto)
    {
        let decided = items.remap_account(item, account, onto).await;
        return print_one(context, item, decided, "remapped");
    }
    let Some(scope) = scope(&decide.scope) else { return Err(no_scope()) };
    let outcome = items.remap(&scope, &decide.by).await;
    print_outcome(context, &scope, outcome, "remapped")
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
    Failure::usage("an ITEM or --institution is required; `px review` lists the data on hold")
}

fn print_one(
    context: &Context,
    item: &ItemId,
    decided: std::result::Result<(), ItemsError>,
    result: &str,
) -> Result<()> {
    let scope = ReviewScope::Item(item.clone());
    let outcome = decided.map(|()| {
        let mut outcome = ReviewOutcome::default();
        outcome.items = 1;
        outcome
    });
    print_outcome(context, &scope, outcome, result)
}

fn print_outcome(
    context: &Context,
    scope: &ReviewScope,
    outcome: std::result::Result<ReviewOutcome, ItemsError>,
    result: &str,
) -> Result<()> {
    let outcome = outcome.map_err(|error| match error.kind() {
        ItemsErrorKind::ItemNotFound => Failure::not_found("no such Item; `px items` lists them"),
        _ => Failure::because("cannot decide", &error),
    })?;
    if context.json {
        return print_json(&OutcomeLine { items: outcome.items, busy: &outcome.busy });
    }
    let number = count(outcome.items, "Item");
    match scope {
        ReviewScope::Item(item) => {
            print(format_args!("{item}: {result}; its next update applies the decision"))?;
        }
        ReviewScope::Institution(institution) => {
            print(format_args!("{institution}: {number} {result}"))?;
        }
    }
    if !outcome.busy.is_empty() {
        let busy = count(outcome.busy.len(), "Item");
        say(format_args!("{busy} could not be changed now; their next updates apply the decision"));
    }
    Ok(())
}

fn subject(review: &Review) -> String {
    match &review.subject {
        Subject::Transactions if review.rows > 0 => {
            format!("{} under new ids", count(review.rows, "transaction"))
        }
        Subject::Transactions => "transactions under new ids".to_owned(),
        Subject::Customer => "a response that may be another customer's".to_owned(),
        Subject::Account { held, like } => format!("account {held}, which resembles {like}"),
        _ => "data of a kind that this version does not know".to_owned(),
    }
}

fn decision(review: &Review) -> String {
    match &review.decision {
        Some(decision) => format!("{} by {}", decision.outcome.as_str(), decision.by),
        None => "waits".to_owned(),
    }
}
