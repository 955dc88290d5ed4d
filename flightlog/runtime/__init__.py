"""The bounded runtime. Its public names beside those of `flightlog` itself load lazily."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flightlog.control.breaker_policy import BreakerPolicy as BreakerPolicy
    from flightlog.control.breaker_policy import Fallback as Fallback
    from flightlog.control.control import Control as Control
    from flightlog.control.window_budget import WindowBudget as WindowBudget
    from flightlog.errors import ToolError as ToolError
    from flightlog.runtime.approvers import queue_approver as queue_approver
    from flightlog.runtime.approvers import terminal_approver as terminal_approver
    from flightlog.runtime.budget import ToolBudget as ToolBudget
    from flightlog.runtime.cancel import CancelToken as CancelToken
    from flightlog.runtime.credentials import Credentials as Credentials
    from flightlog.runtime.from_config import agent_settings as agent_settings
    from flightlog.runtime.from_config import credentials_from as credentials_from
    from flightlog.runtime.from_config import policy_from as policy_from
    from flightlog.runtime.from_config import prices_from as prices_from
    from flightlog.runtime.guards import Guard as Guard
    from flightlog.runtime.guards import GuardAction as GuardAction
    from flightlog.runtime.guards import GuardPolicy as GuardPolicy
    from flightlog.runtime.model import ModelRequest as ModelRequest
    from flightlog.runtime.model import ModelResponse as ModelResponse
    from flightlog.runtime.model import Usage as Usage
    from flightlog.runtime.model import UserTurn as UserTurn
    from flightlog.runtime.policy import ApprovalRequest as ApprovalRequest
    from flightlog.runtime.policy import Approver as Approver
    from flightlog.runtime.policy import Decision as Decision
    from flightlog.runtime.policy import approve_all as approve_all
    from flightlog.runtime.prices import Price as Price
    from flightlog.runtime.prices import PriceTable as PriceTable
    from flightlog.runtime.prompt_fit import keep_last as keep_last
    from flightlog.runtime.prompt_fit import keep_policy_and_last as keep_policy_and_last
    from flightlog.runtime.result import RESULT_SCHEMA as RESULT_SCHEMA
    from flightlog.runtime.retry import RetryPolicy as RetryPolicy
    from flightlog.runtime.tool_context import ToolContext as ToolContext
    from flightlog.runtime.tool_sources import tools_from_provider as tools_from_provider
    from flightlog.trace.messages import Message as Message
    from flightlog.trace.messages import ToolRequest as ToolRequest

_PUBLIC = {
    "ApprovalRequest": "flightlog.runtime.policy",
    "Approver": "flightlog.runtime.policy",
    "BreakerPolicy": "flightlog.control.breaker_policy",
    "CancelToken": "flightlog.runtime.cancel",
    "Control": "flightlog.control.control",
    "Credentials": "flightlog.runtime.credentials",
    "Decision": "flightlog.runtime.policy",
    "Fallback": "flightlog.control.breaker_policy",
    "Guard": "flightlog.runtime.guards",
    "GuardAction": "flightlog.runtime.guards",
    "GuardPolicy": "flightlog.runtime.guards",
    "Message": "flightlog.trace.messages",
    "ModelRequest": "flightlog.runtime.model",
    "ModelResponse": "flightlog.runtime.model",
    "Price": "flightlog.runtime.prices",
    "PriceTable": "flightlog.runtime.prices",
    "RESULT_SCHEMA": "flightlog.runtime.result",
    "RetryPolicy": "flightlog.runtime.retry",
    "ToolBudget": "flightlog.runtime.budget",
    "ToolContext": "flightlog.runtime.tool_context",
    "ToolError": "flightlog.errors",
    "ToolRequest": "flightlog.trace.messages",
    "Usage": "flightlog.runtime.model",
    "UserTurn": "flightlog.runtime.model",
    "WindowBudget": "flightlog.control.window_budget",
    "agent_settings": "flightlog.runtime.from_config",
    "approve_all": "flightlog.runtime.policy",
    "credentials_from": "flightlog.runtime.from_config",
    "keep_last": "flightlog.runtime.prompt_fit",
    "keep_policy_and_last": "flightlog.runtime.prompt_fit",
    "policy_from": "flightlog.runtime.from_config",
    "prices_from": "flightlog.runtime.from_config",
    "queue_approver": "flightlog.runtime.approvers",
    "tools_from_provider": "flightlog.runtime.tool_sources",
    "terminal_approver": "flightlog.runtime.approvers",
}

__all__ = [
    "RESULT_SCHEMA",
    "ApprovalRequest",
    "Approver",
    "BreakerPolicy",
    "CancelToken",
    "Control",
    "Credentials",
    "Decision",
    "Fallback",
    "Guard",
    "GuardAction",
    "GuardPolicy",
    "Message",
    "ModelRequest",
    "ModelResponse",
    "Price",
    "PriceTable",
    "RetryPolicy",
    "ToolBudget",
    "ToolContext",
    "ToolError",
    "ToolRequest",
    "Usage",
    "UserTurn",
    "WindowBudget",
    "agent_settings",
    "approve_all",
    "credentials_from",
    "keep_last",
    "keep_policy_and_last",
    "policy_from",
    "prices_from",
    "queue_approver",
    "terminal_approver",
    "tools_from_provider",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
