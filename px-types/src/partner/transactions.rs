use crate::{
    endpoint::{
        Endpoint, Meta, RequiredScope,
        codec::{Empty, json_responses},
        parameters::{ParameterError, ParameterWriter, Parameters, ParsedParameters},
    },
    fault::{ElementKind, Fault, Faults},
    message::message,
    model::{security::Security, transaction::Transaction},
    primitive::{date::Date, id::UserId},
};

/// Maximum number of transactions of a page.
pub const MAX_LIMIT: u64 = 500;
/// Default number of transactions of a page.
pub const DEFAULT_LIMIT: u64 = 100;

/// `GET /users/{user_id}/transactions`: returns a page of the transactions of a user.
///
/// Contract: `px.md` section 2.2.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListTransactions {
    /// The id of the user, who must be the principal of the token.
    pub user_id: UserId,
    /// The window of dates and the position in it.
    pub query: TransactionsQuery,
}

impl ListTransactions {
    /// Creates the request.
    #[must_use]
    pub fn new(user_id: UserId, query: TransactionsQuery) -> Self {
        Self { user_id, query }
    }
}

impl Endpoint for ListTransactions {
    const META: Meta = Meta::get("transactions", "/users/{user_id}/transactions")
        .bearer(RequiredScope::Transactions)
        .summary("Returns a page of a user's transactions in a window of dates");
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

/// A window of dates and a position in it.
///
/// The date of a transaction is that of `settled_at`, or of `transacted_at` while it is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionsQuery {
    /// The first date of the window, inclusive.
    pub start_date: Date,
    /// The last date of the window, inclusive.
    pub end_date: Date,
    /// The maximum number of transactions in the response, 1–500.
    pub limit: u64,
    /// The start of the page in the window.
    pub position: Position,
}

/// The start of a page in a window: an offset or a cursor, never both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// The number of transactions to skip. Pages may be inconsistent if the window changes meanwhile.
    Offset(u64),
    /// The cursor of the previous page. The page continues the window as it was then.
    Cursor(String),
}

impl TransactionsQuery {
    /// Creates a query for the first page of a window, with the default limit.
    #[must_use]
    pub fn new(start_date: Date, end_date: Date) -> Self {
        Self { start_date, end_date, limit: DEFAULT_LIMIT, position: Position::Offset(0) }
    }
}

impl TransactionsQuery {
    /// Creates the requested page from all transactions of a user, in any order.
    ///
    /// Use it in partners that hold the transactions of a user in memory. It removes the rows outside the
    /// window, sorts the others as the contract requires, counts them and returns the page.
    ///
    /// Returns `None` if the request has a cursor, because these pages have no cursors.
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
    fn read(pairs: &ParsedParameters) -> Result<Self, ParameterError> {
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

    fn write(&self, out: &mut ParameterWriter) {
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
            /// The number of transactions in the window, over all pages and all permitted accounts.
            total: u64,
            /// The transactions of this page, at most `limit`.
            transactions: Vec<Transaction>,
        }
        optional {
            /// The cursor of the next page; `None` on the last page and from partners that use offsets.
            next_cursor: String,
        }
        lists {
            /// The securities of this page that the user response does not list.
            securities: Security,
        }
        skipped {
            /// The faults that a tolerant reader repaired, ignored or set aside.
            faults: Faults,
        }
    }
}

impl TransactionsResponse {
    /// Returns the number of rows of the page as the partner sent it.
    ///
    /// It includes rows that were set aside and rows that were skipped as repetitions.
    #[must_use]
    pub fn rows_sent(&self) -> u64 {
        let set_aside = self.faults.set_aside(ElementKind::Transaction);
        self.transactions.len() as u64 + set_aside + self.rows_repeated()
    }

    /// Returns the number of rows that were skipped because another row has the same contents.
    ///
    /// See [`Fault::of_repeated_id`].
    #[must_use]
    pub fn rows_repeated(&self) -> u64 {
        self.faults.iter().filter(|fault| fault.is_repeated_row()).count() as u64
    }

    /// Returns the faults that a [tolerant](crate::tolerant) reader repaired, ignored or set aside.
    ///
    /// Empty for a response that was constructed locally or that conforms to the contract.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

json_responses!(tolerant: TransactionsResponse);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TransactionsQuery, ParameterError> {
        TransactionsQuery::read(&ParsedParameters::parse(text).unwrap())
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
