use crate::{
    endpoint::{
        Endpoint, Meta, RequiredScope,
        codec::{Empty, json_replies},
        parameters::{Pairs, PairsOut, ParameterError, Parameters},
    },
    fault::{ElementKind, Fault, Faults},
    message::message,
    model::{security::Security, transaction::Transaction},
    primitive::{date::Date, id::UserId},
};

/// The most transactions that a page may have.
pub const MAX_LIMIT: u64 = 500;
/// The transactions that a page has when the caller names no limit.
pub const DEFAULT_LIMIT: u64 = 100;

/// `GET /users/{user_id}/transactions`: the transactions of one user in a window of dates.
///
/// Contract: `px.md` section 2.2.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListTransactions {
    /// The user, who must be the token's principal.
    pub user_id: UserId,
    /// The window and the place in it.
    pub query: TransactionsQuery,
}

impl ListTransactions {
    /// Asks for a page of a user's transactions.
    #[must_use]
    pub fn new(user_id: UserId, query: TransactionsQuery) -> Self {
        Self { user_id, query }
    }
}

impl Endpoint for ListTransactions {
    const META: Meta = Meta::get("transactions", "/users/{user_id}/transactions")
        .bearer(RequiredScope::Transactions)
        .summary("A user's transactions in a window of dates");
    type Path = (UserId,);
    type Query = TransactionsQuery;
    type Body = Empty;
    type Response = TransactionsResponse;

    fn into_parts(self) -> (Self::Path, Self::Query, Empty) {
        ((self.user_id,), self.query, Empty)
    }
    fn from_parts((user_id,): Self::Path, query: Self::Query, _: Empty) -> Self {
        Self { user_id, query }
    }
}

/// A window of dates, both inclusive, and a place in it.
///
/// The date of a transaction is that of `settled_at`, or of `transacted_at` while it is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionsQuery {
    /// The first date of the window.
    pub start_date: Date,
    /// The last date of the window.
    pub end_date: Date,
    /// The most transactions to answer, 1–500.
    pub limit: u64,
    /// Where in the window the page begins.
    pub position: Position,
}

/// Where in a window a page begins. A page has an offset or a cursor, never both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// That many transactions are left out. No promise holds while the window changes.
    Offset(u64),
    /// After the page that gave this cursor, in the window as it was then.
    Cursor(String),
}

impl TransactionsQuery {
    /// The first page of a window, with the default limit.
    #[must_use]
    pub fn new(start_date: Date, end_date: Date) -> Self {
        Self { start_date, end_date, limit: DEFAULT_LIMIT, position: Position::Offset(0) }
    }
}

impl TransactionsQuery {
    /// Makes the page out of all the rows that a partner has, in any order.
    ///
    /// For partners that hold a user's transactions in memory: it leaves out what lies
    /// outside the window, sorts as the contract asks, counts and cuts. `None` when the
    /// caller asks by a cursor, which such a partner never gave.
    #[must_use]
    pub fn page_of(&self, mut rows: Vec<Transaction>) -> Option<TransactionsResponse> {
        let Position::Offset(offset) = self.position else { return None };
        rows.retain(|row| (self.start_date..=self.end_date).contains(&row.date()));
        rows.sort_by(|a, b| b.date().cmp(&a.date()).then_with(|| a.id.cmp(&b.id)));
        let total = rows.len() as u64;
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let page = rows.into_iter().skip(skip).take(self.limit as usize).collect::<Vec<_>>();
        Some(TransactionsResponse::new(total, page))
    }
}

impl Parameters for TransactionsQuery {
    fn read(pairs: &Pairs) -> Result<Self, ParameterError> {
        let start_date: Date = pairs.required("start_date")?;
        let end_date: Date = pairs.required("end_date")?;
        if start_date > end_date {
            return Err(ParameterError::new("start_date", "later than `end_date`"));
        }
        let limit = pairs.natural("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        let offset = pairs.natural("offset", 0..=u64::MAX)?;
        let position = match (pairs.text("cursor")?, offset) {
            (Some(_), Some(_)) => {
                return Err(ParameterError::new("offset", "not allowed together with `cursor`"));
            }
            (Some(cursor), None) => Position::Cursor(cursor.to_owned()),
            (None, offset) => Position::Offset(offset.unwrap_or(0)),
        };
        Ok(Self { start_date, end_date, limit, position })
    }

    fn write(&self, out: &mut PairsOut) {
        out.push("start_date", &self.start_date.to_string());
        out.push("end_date", &self.end_date.to_string());
        out.push("limit", &self.limit.to_string());
        match &self.position {
            Position::Offset(0) => {}
            Position::Offset(offset) => out.push("offset", &offset.to_string()),
            Position::Cursor(cursor) => out.push("cursor", cursor),
        }
    }
}

message! {
    /// A page of transactions, newest date first, then by id.
    ///
    /// Contract: `px.md` section 2.2.
    pub struct TransactionsResponse {
        required {
            /// How many transactions the window has, over all pages and all permitted accounts.
            total: u64,
            /// The transactions of this page, at most `limit`.
            transactions: Vec<Transaction>,
        }
        optional {
            /// What to ask for next; `None` on the last page, and from partners that page by offset.
            next_cursor: String,
        }
        lists {
            /// Securities that this page refers to and the user's answer does not list.
            securities: Security,
        }
        unwritten {
            /// What a tolerant reader repaired, ignored or set aside in it.
            faults: Faults,
        }
    }
}

impl TransactionsResponse {
    /// Returns how many rows the page has as the partner sent it: those that were set aside, and
    /// those of which another one is the same row, among them.
    #[must_use]
    pub fn rows_sent(&self) -> u64 {
        let set_aside = self.faults.set_aside(ElementKind::Transaction);
        self.transactions.len() as u64 + set_aside + self.rows_repeated()
    }

    /// Returns how many rows were left out because another one is the same row. See
    /// [`Fault::of_repeated_id`].
    #[must_use]
    pub fn rows_repeated(&self) -> u64 {
        self.faults.iter().filter(|fault| fault.is_repeated_row()).count() as u64
    }

    /// Returns what a [tolerant](crate::tolerant) reader repaired, ignored or set aside.
    ///
    /// Empty for a response that was built, or that conforms.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

json_replies!(tolerant: TransactionsResponse);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TransactionsQuery, ParameterError> {
        TransactionsQuery::read(&Pairs::parse(text).unwrap())
    }

    #[test]
    fn refusals_name_the_parameter() {
        let window = "start_date=2024-01-01&end_date=2024-01-31";
        assert_eq!(read(window).unwrap().limit, 100);
        for (extra, name) in [
            ("&limit=0", "limit"),
            ("&limit=501", "limit"),
            ("&limit=x", "limit"),
            ("&offset=-1", "offset"),
            ("&offset=1&cursor=c", "offset"),
            ("&offset=0&cursor=c", "offset"),
            ("&cursor=a&cursor=b", "cursor"),
            ("&start_date=2024-01-01", "start_date"),
        ] {
            let error = read(&format!("{window}{extra}")).unwrap_err();
            assert_eq!(error.parameter(), Some(name), "{extra}");
        }
        for (text, name) in [
            ("end_date=2024-01-31", "start_date"),
            ("start_date=2024-01-31", "end_date"),
            ("start_date=2024-02-30&end_date=2024-03-01", "start_date"),
            ("start_date=2024-01-02&end_date=2024-01-01", "start_date"),
            ("start_date=2024-01-02T00:00:00Z&end_date=2024-01-03", "start_date"),
        ] {
            assert_eq!(read(text).unwrap_err().parameter(), Some(name), "{text}");
        }
    }
}
