"""One node of the cluster: this process' sessions, introduced to what processes share."""

from primacron.node.hooks import Application
from primacron.node.node import Node
from primacron.node.registrar import Admission, Applicant

__all__ = ["Admission", "Applicant", "Application", "Node"]
