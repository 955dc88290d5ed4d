"""Models behind the providers' own SDKs, for agents on our runtime.

Each needs its extra (`flightlog[openai]`, `flightlog[anthropic]`) and imports the SDK when
a model is made. Keys, rate limits and retries are the SDK's: it reads its key from the
environment.
"""

from flightlog.integrations.models.anthropic_model import AnthropicModel
from flightlog.integrations.models.openai_model import OpenAIModel

__all__ = ["AnthropicModel", "OpenAIModel"]
