"""One node of the cluster: this process' sessions, introduced to what processes share."""

from primacron.node.admission import Admission, Applicant
from primacron.node.node import CANCEL_TIMEOUT, Application, Node

__all__ = ["CANCEL_TIMEOUT", "Admission", "Applicant", "Application", "Node"]
