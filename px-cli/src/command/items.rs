//! `px items`: lists the Items, one per line.

use crate::{
    context::Context,
    failure::Result,
    output::{count, print_json, print_table, say, table},
    view::{HEADER, ItemView, row, unreadable},
};
use px_items::store::ListedItem;
use px_types::ItemId;

/// Number of Items per page.
const PAGE_ITEMS: usize = 500;

pub(crate) async fn run(context: &Context) -> Result<()> {
    let now = context.now();
    let mut after: Option<ItemId> = None;
    let (mut shown, mut rows) = (0, table(&HEADER));
    loop {
        let page = context.store.list(after.as_ref(), PAGE_ITEMS).await?;
        for item in &page {
            match (item, context.json) {
                (ListedItem::Readable(record), true) => print_json(&ItemView::new(record, now))?,
                (ListedItem::Readable(record), false) => drop(rows.add_row(row(record, now))),
                (ListedItem::Unreadable(item), true) => {
                    print_json(&serde_json::json!({ "id": item.id, "unreadable": item.reason }))?;
                }
                (ListedItem::Unreadable(item), false) => drop(rows.add_row(unreadable(item))),
                (_, _) => {}
            }
        }
        shown += page.len();
        match page.into_iter().last() {
            Some(last) => after = Some(last.id().clone()),
            None => break,
        }
    }
    if context.json {
        return Ok(());
    }
    if shown == 0 {
        say("no Items yet; `px link` creates one");
        return Ok(());
    }
    print_table(&rows)?;
    say(count(u64::try_from(shown).unwrap_or_default(), "Item"));
    Ok(())
}
