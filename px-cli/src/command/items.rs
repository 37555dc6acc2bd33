//! `px items`: the Items, one a line.

use crate::{
    context::Context,
    failure::Result,
    output::{count, print, print_json, say, table},
    view::{HEADER, ItemView, row},
};
use px_items::store::ItemRecord;

/// How many are read at a time.
const PAGE: usize = 500;

pub(crate) async fn run(context: &Context) -> Result<()> {
    let now = context.now();
    let mut after: Option<ItemRecord> = None;
    let (mut shown, mut rows) = (0, table(&HEADER));
    loop {
        let page = context.store.list(after.as_ref().map(|last| &last.id), PAGE).await?;
        for record in &page {
            match context.json {
                true => print_json(&ItemView::new(record, now))?,
                false => drop(rows.add_row(row(record, now))),
            }
        }
        shown += page.len();
        match page.into_iter().last() {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    if context.json {
        return Ok(());
    }
    if shown == 0 {
        say("no Items yet; `px link` makes one");
        return Ok(());
    }
    print(rows)?;
    say(count(u64::try_from(shown).unwrap_or_default(), "Item"));
    Ok(())
}
