//! `px unlink`: disconnects applications from an Item.

use crate::{
    cli::Unlink,
    context::Context,
    failure::{Failure, Result},
    output::{print, print_json},
};
use px_items::{applications::FixedApplications, items::Items, store::Unlinked};
use px_types::{ApplicationId, ItemId};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct UnlinkLine<'a> {
    item_id: &'a str,
    application_id: Option<&'a str>,
    item_removed: bool,
}

pub(crate) async fn run(context: &Context, unlink: &Unlink) -> Result<()> {
    let item = &unlink.item;
    context.item(item).await?;
    let applications: Vec<ApplicationId> = match &unlink.application {
        Some(application) => vec![application.clone()],
        None => {
            let connections = context.store.connections(item).await?;
            connections.into_iter().map(|connection| connection.application_id).collect()
        }
    };
    if applications.is_empty() {
        return remove_imported(context, item).await;
    }
    let items = Items::builder(context.store.clone())
        .clock(context.clock.clone())
        // The institution is notified of the application by its id, because names are not stored.
        .applications(Arc::new(FixedApplications::new()))
        .build();
    for application in &applications {
        let unlinked = items
            .remove_application(item, application)
            .await
            .map_err(|e| Failure::because("cannot unlink", &e))?;
        let removed = match unlinked {
            Unlinked::NotConnected if unlink.all => continue,
            Unlinked::NotConnected => {
                return Err(Failure::not_found(format!(
                    "{application} is not connected to {item}; `px item {item}` lists its applications"
                )));
            }
            Unlinked::OthersStay => false,
            Unlinked::ItemRemoved => true,
        };
        if context.json {
            let (item_id, application_id) = (item.as_str(), Some(application.as_str()));
            print_json(&UnlinkLine { item_id, application_id, item_removed: removed })?;
        } else if removed {
            print(format_args!(
                "{application} is disconnected. It was the last one: the Item's data is deleted, \
                 and the next `px run` revokes its tokens"
            ))?;
        } else {
            print(format_args!("{application} is disconnected; other applications stay"))?;
        }
    }
    Ok(())
}

/// Removes an Item without applications, which was imported by its institution.
async fn remove_imported(context: &Context, item: &ItemId) -> Result<()> {
    context.store.unlink(item, None, context.now()).await?;
    if context.json {
        return print_json(&UnlinkLine {
            item_id: item.as_str(),
            application_id: None,
            item_removed: true,
        });
    }
    print("no application was connected; the Item's data is deleted")
}
