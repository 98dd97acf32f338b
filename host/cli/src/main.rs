mod config;
mod modules;

fn main() {}
