//! Places: postal addresses and where a transaction was made.

use crate::message::message;

message! {
    /// A postal address.
    ///
    /// Contract: `px.md` section 3.1.
    pub struct Address {
        optional {
            /// Street and number.
            street: String,
            /// City.
            city: String,
            /// Region or state.
            region: String,
            /// Postal code.
            postal_code: String,
            /// ISO 3166-1, two letters.
            country: String,
            /// Whether it is the main one.
            primary: bool,
        }
    }
}

message! {
    /// Where a transaction was made.
    ///
    /// Contract: `px.md` section 3.7.
    pub struct GeoLocation {
        optional {
            /// The point on the map.
            coordinates: Coordinates,
            /// City.
            city: String,
            /// `NY`, or ISO 3166-2 as `US-NY`.
            region: String,
            /// ISO 3166-1, two letters.
            country: String,
            /// Street and number.
            street: String,
            /// Postal code.
            postal_code: String,
            /// The merchant's own number of the store.
            store_number: String,
        }
    }
}

message! {
    /// A point in EPSG:4326 (WGS 84), in degrees.
    pub struct Coordinates {
        required {
            /// Latitude.
            lat: f64,
            /// Longitude.
            lon: f64,
        }
    }
}
