//! `GET .../models`: the base models of the resource, not its deployments, as Foundry has it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::config::DeploymentConfig;

/// Any fixed moment does: clients only read the field.
const CREATED: u64 = 1_721_172_741;

/// The lists, rendered once.
#[derive(Debug)]
pub(crate) struct Models {
    dated: Bytes,
    v1: Bytes,
    names: BTreeSet<String>,
}

impl Models {
    pub(crate) fn new(deployments: &[DeploymentConfig]) -> Self {
        let names: BTreeSet<String> = deployments.iter().map(|d| d.model.clone()).collect();
        let list = |entry: fn(&str) -> Value| {
            let data: Vec<Value> = names.iter().map(|name| entry(name)).collect();
            Bytes::from(json!({"object": "list", "data": data}).to_string())
        };
        Self {
            dated: list(dated),
            v1: list(v1),
            names,
        }
    }

    pub(crate) fn list(&self, is_v1: bool) -> Bytes {
        if is_v1 {
            self.v1.clone()
        } else {
            self.dated.clone()
        }
    }

    pub(crate) fn one(&self, name: &str) -> Option<Bytes> {
        self.names
            .get(name)
            .map(|name| Bytes::from(v1(name).to_string()))
    }
}

fn v1(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "Azure OpenAI"})
}

fn dated(name: &str) -> Value {
    json!({
        "id": name, "object": "model", "created_at": CREATED, "status": "succeeded",
        "lifecycle_status": "generally-available",
        "capabilities": {
            "chat_completion": true, "completion": false, "embeddings": false,
            "fine_tune": false, "inference": true,
        },
    })
}
