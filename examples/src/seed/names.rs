//! The names of people, places and shops. None of them is real.

use px_types::model::location::Coordinates;

/// First names.
pub const FIRST: &[&str] = &[
    "Ada", "Amara", "Ben", "Carla", "Chidi", "Dana", "Diego", "Elena", "Emil", "Farah", "Grace",
    "Hana", "Henrik", "Ines", "Isaac", "Jonas", "Keiko", "Lena", "Liam", "Mateo", "Maya", "Mina",
    "Nadia", "Nora", "Omar", "Oscar", "Paula", "Priya", "Quinn", "Ravi", "Rosa", "Samir", "Sofia",
    "Tara", "Theo", "Uma", "Victor", "Wanda", "Yara", "Zoe",
];

/// Last names.
pub const LAST: &[&str] = &[
    "Abbott",
    "Alvarez",
    "Banerjee",
    "Bauer",
    "Castillo",
    "Chen",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Gallagher",
    "Haddad",
    "Hoffman",
    "Ivanova",
    "Jansen",
    "Kaplan",
    "Kowalski",
    "Lindqvist",
    "Marsh",
    "Mbeki",
    "Moreau",
    "Nakamura",
    "Novak",
    "Okafor",
    "Ortega",
    "Patel",
    "Quigley",
    "Reyes",
    "Rossi",
    "Saito",
    "Sinclair",
    "Thorne",
    "Tran",
    "Underwood",
    "Vargas",
    "Weaver",
    "Whitfield",
    "Yamada",
    "Young",
    "Zapata",
    "Ziegler",
];

/// Streets.
pub const STREETS: &[&str] = &[
    "Alder Lane",
    "Birch Street",
    "Canal Row",
    "Dock Street",
    "Elm Avenue",
    "Foundry Road",
    "Garden Terrace",
    "Harbor View",
    "Juniper Way",
    "Lakeside Drive",
    "Mill Road",
    "Orchard Street",
];

/// Employers.
pub const EMPLOYERS: &[&str] = &[
    "Northgate Logistics",
    "Brightwater Health",
    "Cobalt Software",
    "Harper and Sons",
    "Summit School District",
    "Tidewater Energy",
];

/// A city, with its UTC offset and its coordinates in millionths of a degree.
#[derive(Debug)]
pub struct City {
    /// The name.
    pub name: &'static str,
    /// The state.
    pub region: &'static str,
    /// A postal code.
    pub postal_code: &'static str,
    /// The UTC offset, as in timestamps.
    pub offset: &'static str,
    at: (i32, i32),
}

impl City {
    /// Returns a point in the city. The arguments move it by up to a few streets.
    #[must_use]
    pub fn point(&self, north: i32, east: i32) -> Coordinates {
        Coordinates::new(degrees(self.at.0 + north * 100), degrees(self.at.1 + east * 100))
    }
}

#[allow(clippy::float_arithmetic, reason = "coordinates are JSON numbers, not money")]
fn degrees(millionths: i32) -> f64 {
    f64::from(millionths) / 1_000_000.0
}

/// Cities.
pub const CITIES: &[City] = &[
    City {
        name: "New York",
        region: "NY",
        postal_code: "10012",
        offset: "-05:00",
        at: (40_725_000, -73_998_000),
    },
    City {
        name: "Boston",
        region: "MA",
        postal_code: "02118",
        offset: "-05:00",
        at: (42_338_000, -71_070_000),
    },
    City {
        name: "Chicago",
        region: "IL",
        postal_code: "60614",
        offset: "-06:00",
        at: (41_922_000, -87_650_000),
    },
    City {
        name: "Austin",
        region: "TX",
        postal_code: "78704",
        offset: "-06:00",
        at: (30_243_000, -97_766_000),
    },
    City {
        name: "Denver",
        region: "CO",
        postal_code: "80205",
        offset: "-07:00",
        at: (39_759_000, -104_966_000),
    },
    City {
        name: "Seattle",
        region: "WA",
        postal_code: "98103",
        offset: "-08:00",
        at: (47_673_000, -122_343_000),
    },
];

/// The way in which a purchase gets its final amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The authorized amount.
    Same,
    /// A tip is added in some cases.
    Tip,
    /// Authorized with one dollar, posted with the actual amount.
    Preauthorized,
    /// The hold is released in some cases.
    Hold,
}

/// A shop.
#[derive(Debug)]
pub struct Shop {
    /// The name.
    pub name: &'static str,
    /// Merchant category code.
    pub mcc: &'static str,
    /// Website; empty if there is none.
    pub website: &'static str,
    /// Purchases in a thousand days.
    pub often: u64,
    /// The minimum and maximum amount, in cents.
    pub spends: (i64, i64),
    /// The way in which a purchase gets its final amount.
    pub finish: Finish,
    /// Whether it has stores, so that purchases have a location.
    pub place: bool,
}

const fn shop(
    name: &'static str,
    mcc: &'static str,
    website: &'static str,
    often: u64,
    spends: (i64, i64),
    finish: Finish,
    place: bool,
) -> Shop {
    Shop { name, mcc, website, often, spends, finish, place }
}

/// Shops.
pub const SHOPS: &[Shop] = &[
    shop("Greenleaf Market", "5411", "greenleaf.example", 260, (1840, 16400), Finish::Same, true),
    shop("Harvest & Co Grocers", "5411", "harvestco.example", 140, (900, 8800), Finish::Same, true),
    shop(
        "Copper Kettle Coffee",
        "5814",
        "copperkettle.example",
        360,
        (340, 1290),
        Finish::Same,
        true,
    ),
    shop("Blue Lantern Noodles", "5812", "", 130, (1600, 5400), Finish::Tip, true),
    shop("Trattoria Sole", "5812", "trattoriasole.example", 70, (3200, 11800), Finish::Tip, true),
    shop(
        "Fastlane Fuel",
        "5541",
        "fastlanefuel.example",
        110,
        (2400, 6800),
        Finish::Preauthorized,
        true,
    ),
    shop("Metro Transit", "4111", "metrotransit.example", 60, (275, 550), Finish::Same, true),
    shop("Parcel Palace", "5999", "parcelpalace.example", 120, (1100, 14900), Finish::Same, false),
    shop("Corner Apothecary", "5912", "", 50, (620, 5200), Finish::Same, true),
    shop("Pixel Cinema", "7832", "pixelcinema.example", 25, (1250, 4100), Finish::Same, true),
    shop(
        "Threadbare Outfitters",
        "5651",
        "threadbare.example",
        30,
        (2900, 18900),
        Finish::Same,
        true,
    ),
    shop("Hammer & Hinge Hardware", "5251", "", 22, (1200, 21500), Finish::Same, true),
    shop("Seaside Inns", "7011", "seasideinns.example", 8, (14900, 48900), Finish::Hold, true),
];

/// A monthly bill.
#[derive(Debug)]
pub struct Bill {
    /// The biller.
    pub name: &'static str,
    /// Merchant category code.
    pub mcc: &'static str,
    /// The day of the month.
    pub day: u32,
    /// The minimum and maximum amount, in cents.
    pub costs: (i64, i64),
    /// Whether the amount differs from month to month.
    pub varies: bool,
}

const fn bill(
    name: &'static str,
    mcc: &'static str,
    day: u32,
    costs: (i64, i64),
    varies: bool,
) -> Bill {
    Bill { name, mcc, day, costs, varies }
}

/// Bills.
pub const BILLS: &[Bill] = &[
    bill("City Light & Water", "4900", 5, (6800, 17500), true),
    bill("Beacon Mobile", "4814", 12, (4500, 8900), false),
    bill("Fibernet", "4899", 18, (5900, 8900), false),
    bill("Oak Mutual Insurance", "6300", 20, (9800, 18800), false),
    bill("Reelstream", "4899", 9, (1199, 1899), false),
    bill("Ironworks Gym", "7997", 3, (2900, 5900), false),
];
