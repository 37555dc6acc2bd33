//! One test for each case in which others lost or doubled data; the name begins with its number.
