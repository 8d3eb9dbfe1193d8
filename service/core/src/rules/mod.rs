//! Rule sets: YAML with CEL conditions, type-checked against the catalogue, compiled to closures over slots.
