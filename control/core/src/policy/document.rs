//! The JSON form of a policy. Its `config` is deserialised after its `type` is known, by that type,
//! so that faults have a pointer and what a newer release stored is kept.

use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Policy, PolicyConfig, TYPES};
use crate::stored::Foreign;

const FIELDS: &[&str] = &["id", "name", "type", "config", "route"];

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    Name,
    Type,
    Config,
    Route,
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Policy", FIELDS.len())?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("type", self.config.kind())?;
        match &self.config {
            PolicyConfig::RateLimit(limit) => fields.serialize_field("config", limit)?,
            PolicyConfig::RequestHeaders(headers) | PolicyConfig::ResponseHeaders(headers) => {
                fields.serialize_field("config", headers)?;
            }
            PolicyConfig::IpAccess(access) => fields.serialize_field("config", access)?,
            PolicyConfig::Cors(cors) => fields.serialize_field("config", cors)?,
            PolicyConfig::Unknown(unknown) => fields.serialize_field("config", &unknown.config)?,
        }
        fields.serialize_field("route", &self.route)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Policy", FIELDS, Document)
    }
}

struct Document;

impl<'de> Visitor<'de> for Document {
    type Value = Policy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("struct Policy")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Policy, A::Error> {
        let (mut id, mut name, mut kind, mut route) = (None, None, None, None);
        let (mut config, mut waiting) = (None, None);
        while let Some(field) = map.next_key::<Field>()? {
            match (field, &kind) {
                (Field::Id, _) => id = Some(map.next_value()?),
                (Field::Name, _) => name = Some(map.next_value()?),
                (Field::Type, _) => kind = Some(map.next_value::<String>()?),
                (Field::Route, _) => route = map.next_value()?,
                (Field::Config, Some(kind)) => config = Some(map.next_value_seed(Config(kind))?),
                (Field::Config, None) => waiting = Some(map.next_value::<Value>()?),
            }
        }
        let kind = kind.ok_or_else(|| de::Error::missing_field("type"))?;
        let config = match (config, waiting) {
            (Some(config), _) => config,
            (None, Some(config)) => Config(&kind).deserialize(config).map_err(de::Error::custom)?,
            (None, None) => return Err(de::Error::missing_field("config")),
        };
        let name = name.ok_or_else(|| de::Error::missing_field("name"))?;
        Ok(Policy { id: id.unwrap_or_default(), name, config, route })
    }
}

/// Deserialises the settings of this policy type.
struct Config<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Config<'_> {
    type Value = PolicyConfig;

    fn deserialize<D: Deserializer<'de>>(self, config: D) -> Result<PolicyConfig, D::Error> {
        if TYPES.iter().any(|it| it.name == self.0) {
            let tagged = Tagged { kind: Some(self.0), config: Some(config) };
            return PolicyConfig::deserialize(de::value::MapAccessDeserializer::new(tagged));
        }
        // A request has no such part, so there the type itself is the fault.
        let foreign = Foreign::deserialize(config);
        let foreign = foreign.map_err(|_| de::Error::unknown_variant(self.0, &NAMES))?;
        Ok(PolicyConfig::unknown(self.0.to_owned(), foreign.0))
    }
}

static NAMES: [&str; TYPES.len()] = {
    let mut names = [""; TYPES.len()];
    let mut at = 0;
    while at < TYPES.len() {
        names[at] = TYPES[at].name;
        at += 1;
    }
    names
};

/// Yields `type` before `config`, so that the enum's deserialiser need not buffer the settings.
struct Tagged<'k, D> {
    kind: Option<&'k str>,
    config: Option<D>,
}

impl<'de, D: Deserializer<'de>> MapAccess<'de> for Tagged<'_, D> {
    type Error = D::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, D::Error> {
        let key = match (&self.kind, &self.config) {
            (Some(_), _) => "type",
            (None, Some(_)) => "config",
            (None, None) => return Ok(None),
        };
        let key: value::StrDeserializer<'_, D::Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, D::Error> {
        if let Some(kind) = self.kind.take() {
            let kind: value::StrDeserializer<'_, D::Error> = kind.into_deserializer();
            return seed.deserialize(kind);
        }
        let config = self.config.take().ok_or_else(|| de::Error::missing_field("config"))?;
        seed.deserialize(config)
    }
}
