//! The download engine on a simulated network: what it asks for, what it keeps, and that whatever happens on the way ends in the file's own
//! bytes or in an error that says why.

mod faults;
mod resume;
mod servers;
mod sim;
