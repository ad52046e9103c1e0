//! The whole product on real parts: objects applied with kubectl to a real API server, operators and
//! proxies as processes under the chart's own RBAC, official SDKs as clients, and outages of
//! everything that can fail.

mod attacks;
mod calendar;
mod callers;
mod deployments;
mod enforcement;
mod gateway_api;
mod gitops;
mod hoard;
mod installation;
mod keyless;
mod keys;
mod leaks;
mod load;
mod outages;
mod pairs;
mod parts;
mod quotas;
mod retirements;
mod secrets;
mod silence;
mod snapshot;
mod store;
mod warnings;
