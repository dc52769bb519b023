# The lines of "Usage-Based Billing for AI Agents with FastAPI and Kong" in their order, as they
# stand; `http://localhost:8000` is replaced by the application's address when they run. "from the
# dashboard" are requests for what the walkthrough clicks; "ours" is not in it.

#: a call without a key
curl -X POST http://localhost:8000/api/generate \
  -H "Content-Type: application/json" \
  -d '{"prompt": "Hello"}'

#: a call with a key
curl -X POST http://localhost:8000/api/generate \
  -H "Content-Type: application/json" \
  -H "X-Api-Key: ak_user1_abc123" \
  -d '{"prompt": "Write a haiku about Python programming"}'

#: an event by hand
curl -X POST $KONNECT_API_URL/events \
  -H "Authorization: Bearer $KONNECT_TOKEN" \
  -H "Content-Type: application/cloudevents+json" \
  -d '{
    "specversion": "1.0",
    "id": "test-event-001",
    "source": "ai-text-api",
    "type": "llm_token_usage",
    "subject": "user-001",
    "time": "2026-04-13T10:30:00Z",
    "datacontenttype": "application/json",
    "data": {
      "total_tokens": 100,
      "prompt_tokens": 40,
      "completion_tokens": 60,
      "model": "gpt-4o-mini",
      "endpoint": "/api/generate"
    }
  }'

#: a meter of all tokens
curl -X POST $KONNECT_API_URL/meters \
  -H "Authorization: Bearer $KONNECT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "key": "llm_total_tokens",
    "name": "Total LLM Tokens",
    "description": "Total LLM tokens consumed per request",
    "event_type": "llm_token_usage",
    "aggregation": "sum",
    "value_property": "$.total_tokens",
    "dimensions": {
      "model": "$.model",
      "endpoint": "$.endpoint"
    }
  }'

#: a meter of the answers' tokens
curl -X POST $KONNECT_API_URL/meters \
  -H "Authorization: Bearer $KONNECT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "key": "llm_completion_tokens",
    "name": "LLM Completion Tokens",
    "description": "LLM output/completion tokens consumed",
    "event_type": "llm_token_usage",
    "aggregation": "sum",
    "value_property": "$.completion_tokens",
    "dimensions": {
      "model": "$.model"
    }
  }'

#: a call to see events flow
curl -X POST http://localhost:8000/api/generate \
  -H "Content-Type: application/json" \
  -H "X-Api-Key: ak_user1_abc123" \
  -d '{"prompt": "Explain what a REST API is in two sentences"}'

#: the meters
curl $KONNECT_API_URL/meters \
  -H "Authorization: Bearer $KONNECT_TOKEN"

#: from the dashboard: usage by user
curl $KONNECT_API_URL/meters/llm_total_tokens/query \
  -H "Authorization: Bearer $KONNECT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"group_by_dimensions": ["subject", "model", "endpoint"]}'

#: from the dashboard: a feature
curl -X POST $KONNECT_API_URL/features \
  -H "Authorization: Bearer $KONNECT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "key": "ai_tokens",
    "name": "AI Tokens",
    "meter": {"id": "'$METER_ID'"}
  }'

#: from the dashboard: a plan
curl -X POST $KONNECT_API_URL/plans \
  -H "Authorization: Bearer $KONNECT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "key": "starter",
    "name": "Starter",
    "currency": "USD",
    "billing_cadence": "P1M",
    "phases": [
      {
        "key": "default",
        "name": "Default",
        "rate_cards": [
          {
            "key": "ai_tokens",
            "name": "AI Tokens",
            "feature": {"id": "'$FEATURE_ID'"},
            "billing_cadence": "P1M",
            "price": {"type": "unit", "amount": "0.000002"}
          }
        ]
      }
    ]
  }'

#: from the dashboard: publish the plan
curl -X POST $KONNECT_API_URL/plans/$PLAN_ID/publish \
  -H "Authorization: Bearer $KONNECT_TOKEN"

#: a customer
curl -X POST $KONNECT_API_URL/customers \
  -H "Authorization: Bearer $KONNECT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Alice",
    "key": "user-001",
    "usage_attribution": {
      "subject_keys": ["user-001"]
    }
  }'

#: a subscription
curl -X POST $KONNECT_API_URL/subscriptions \
  -H "Authorization: Bearer $KONNECT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "customer": {
      "key": "user-001"
    },
    "plan": {
      "key": "starter"
    }
  }'

#: Alice generates
curl -X POST http://localhost:8000/api/generate \
  -H "Content-Type: application/json" \
  -H "X-Api-Key: ak_user1_abc123" \
  -d '{"prompt": "Write a short product description for a task management app"}'

#: Alice summarizes
curl -X POST http://localhost:8000/api/summarize \
  -H "Content-Type: application/json" \
  -H "X-Api-Key: ak_user1_abc123" \
  -d '{"text": "FastAPI is a modern, fast web framework for building APIs with Python based on standard Python type hints. It is designed to be easy to use and learn while also being highly performant. FastAPI automatically generates interactive API documentation and validates request data using Pydantic models."}'

#: ours: Alice generates more
curl -X POST http://localhost:8000/api/generate \
  -H "Content-Type: application/json" \
  -H "X-Api-Key: ak_user1_abc123" \
  -d '{"max_tokens": 871, "prompt": "'"$PROMPT"'"}'

#: Bob generates
curl -X POST http://localhost:8000/api/generate \
  -H "Content-Type: application/json" \
  -H "X-Api-Key: ak_user2_def456" \
  -d '{"prompt": "Draft a welcome email for a new SaaS customer"}'

#: Bob analyzes
curl -X POST http://localhost:8000/api/analyze \
  -H "Content-Type: application/json" \
  -H "X-Api-Key: ak_user2_def456" \
  -d '{"text": "Our Q1 revenue was $2.3M, up 15% from Q4. Customer churn decreased to 3.2%. New sign-ups increased by 22%.", "query": "What are the key business metrics and trends?"}'

#: entitlement access
curl $KONNECT_API_URL/customers/$alice_customer_id/entitlement-access \
  -H "Authorization: Bearer $KONNECT_TOKEN"
