//! The JSON pages of the admin port as types, for the processes that write them and for `tundish`,
//! which reads them. The names and the order of the JSON's fields are an interface.

pub mod backends;
pub mod explanation;
mod limit_name;
pub mod question;
#[cfg(test)]
mod tests;
pub mod usage;
