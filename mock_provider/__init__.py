"""An LLM provider to run the gateway against: no key, and a bill that can be checked by hand.

It speaks OpenAI's, Anthropic's and Gemini's formats. It knows nothing of Kong or of Tallyman.
"""
