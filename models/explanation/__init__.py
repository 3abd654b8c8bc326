"""Explanations of a quantity of interest: value with interval, attribution per input, regions, checks."""

from models.explanation.answer import Explanation, explain
from models.explanation.document import document
from models.explanation.plan import Request

__all__ = ["Explanation", "Request", "document", "explain"]
