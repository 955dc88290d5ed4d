import { NodeTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OpenTelemetry } from '@ai-sdk/otel';
import { generateText, registerTelemetry, stepCountIs, tool } from 'ai';
import { MockLanguageModelV4 } from 'ai/test';
import { z } from 'zod';

const exporter = new OTLPTraceExporter({ url: `${process.argv[2]}/v1/traces` });
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
provider.register();
registerTelemetry(new OpenTelemetry());

const asks = (id, order) => ({ type: 'tool-call', toolCallId: id, toolName: 'get_order', input: JSON.stringify({ id: order }) });
const answers = [[asks('c1', 'R1')], [asks('c2', 'R9')], [{ type: 'text', text: 'R1 is on its way.' }]];
const usage = { inputTokens: { total: 100, noCache: 60, cacheRead: 40, cacheWrite: 0 }, outputTokens: { total: 9, text: 9, reasoning: 0 } };
let step = 0;
const model = new MockLanguageModelV4({
  modelId: 'mock-model',
  doGenerate: async () => {
    const content = answers[step++];
    const unified = content[0].type === 'text' ? 'stop' : 'tool-calls';
    return { content, finishReason: { unified, raw: unified }, usage, warnings: [] };
  },
});
const getOrder = tool({
  description: 'An order.',
  inputSchema: z.object({ id: z.string() }),
  execute: async ({ id }) => {
    if (id !== 'R1') throw new Error('no such order');
    return { state: 'shipped' };
  },
});
const result = await generateText({
  model, tools: { get_order: getOrder }, stopWhen: stepCountIs(5),
  system: 'Be brief.', prompt: 'Where are R1 and R9?', experimental_telemetry: { isEnabled: true, functionId: 'desk' },
  telemetry: { isEnabled: true, functionId: 'desk' },
});
console.log(result.text);
await provider.shutdown();
