//! The interface as an OpenAPI description, <https://spec.openapis.org/oas/v3.1.0>.

use serde_json::{Value, json};

use super::{Limits, Model};

/// The description.
pub(super) fn description(model: &Model, limits: &Limits) -> Value {
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let answers = |schema: Value| {
        json!({
            "200": { "description": "what the network takes it for", "content": content(schema) },
            "400": { "description": "a request that cannot be understood", "content": content(reference("Error")) },
            "413": { "description": "more bytes or pictures than are allowed", "content": content(reference("Error")) },
            "422": { "description": "no picture that can be read", "content": content(reference("Error")) },
            "503": { "description": "too many requests at a time", "content": content(reference("Error")) },
            "500": { "description": "the server's own fault", "content": content(reference("Error")) },
            "504": { "description": "it took too long", "content": content(reference("Error")) },
        })
    };
    let top = json!({
        "name": "top",
        "in": "query",
        "description": "how many classes to name",
        "schema": { "type": "integer", "minimum": 1, "default": super::routes::TOP },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("xp: {}", model.name),
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Classifies pictures as one of {}. At most {} bytes and {} seconds a request.",
                model.classes.join(", "), limits.bytes, limits.time.as_secs_f64()
            ),
        },
        "paths": {
            "/predict": { "post": {
                "summary": "Classify a picture",
                "operationId": "predict",
                "parameters": [top],
                "requestBody": {
                    "required": true,
                    "description": "the bytes of a JPEG, PNG, WebP, BMP or GIF file",
                    "content": { "application/octet-stream": {}, "image/*": {} },
                },
                "responses": answers(reference("Prediction")),
            }},
            "/batch": { "post": {
                "summary": format!("Classify up to {} pictures", limits.pictures),
                "operationId": "batch",
                "parameters": [top],
                "requestBody": {
                    "required": true,
                    "content": { "multipart/form-data": { "schema": {
                        "type": "object",
                        "additionalProperties": { "type": "string", "format": "binary" },
                    }}},
                },
                "responses": answers(json!({ "type": "array", "items": { "anyOf": [
                    reference("Prediction"), reference("Error")
                ]}})),
            }},
            "/": { "get": {
                "summary": "A page to drop pictures on",
                "operationId": "page",
                "responses": { "200": { "description": "HTML", "content": { "text/html": {} } } },
            }},
            "/health": { "get": {
                "summary": "Whether the server is there",
                "operationId": "health",
                "responses": { "200": { "description": "it is" } },
            }},
            "/metrics": { "get": {
                "summary": "What it has done so far, for Prometheus",
                "operationId": "metrics",
                "responses": { "200": { "description": "text", "content": { "text/plain": {} } } },
            }},
        },
        "components": { "schemas": {
            "Prediction": {
                "type": "object",
                "required": ["classes"],
                "properties": {
                    "name": { "type": "string", "description": "of the file, in a batch" },
                    "classes": { "type": "array", "description": "the most probable first", "items": {
                        "type": "object",
                        "required": ["class", "probability"],
                        "properties": {
                            "class": { "type": "string" },
                            "probability": { "type": "number", "minimum": 0, "maximum": 1 },
                        },
                    }},
                },
            },
            "Error": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "name": { "type": "string", "description": "of the file, in a batch" },
                    "error": { "type": "string" },
                },
            },
        }},
    })
}
