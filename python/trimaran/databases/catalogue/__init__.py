"""PostgreSQL's catalogue as far as it decides what code a statement can reach, and a cheap way to see that it changed."""

from trimaran.databases.catalogue.facts import Catalogue, Function, Key, Named, Part, Relation
from trimaran.databases.catalogue.fingerprint import fingerprint
from trimaran.databases.catalogue.load import custom_settings, load

__all__ = ["Catalogue", "Function", "Key", "Named", "Part", "Relation", "custom_settings", "fingerprint", "load"]
