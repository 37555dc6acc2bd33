//! Postal addresses and the locations of transactions.

use crate::message::message;

message! {
    /// A postal address.
    ///
    /// Contract: `px.md` section 3.1.
    pub struct Address {
        optional {
            /// The street and house number.
            street: String,
            /// The city.
            city: String,
            /// The region or state.
            region: String,
            /// The postal code.
            postal_code: String,
            /// The country, ISO 3166-1 alpha-2.
            country: String,
            /// Whether this is the primary address.
            primary: bool,
        }
    }
}

message! {
    /// The location of a transaction.
    ///
    /// Contract: `px.md` section 3.7.
    pub struct GeoLocation {
        optional {
            /// The coordinates.
            coordinates: Coordinates,
            /// The city.
            city: String,
            /// The region: `NY`, or ISO 3166-2 such as `US-NY`.
            region: String,
            /// The country, ISO 3166-1 alpha-2.
            country: String,
            /// The street and house number.
            street: String,
            /// The postal code.
            postal_code: String,
            /// The store number of the merchant.
            store_number: String,
        }
    }
}

message! {
    /// Coordinates in EPSG:4326 (WGS 84), in degrees.
    pub struct Coordinates {
        required {
            /// The latitude.
            lat: f64,
            /// The longitude.
            lon: f64,
        }
    }
}
