"""The words of a report in English and Chinese.

Titles, reasons and fixes of requirements and the effects of engines are data in both languages;
what rules and readers say has its Chinese in `schemas/phrases`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from slimcheck.report.phrases import in_chinese
from slimspec.patterns import visible as visible
from slimspec.requirements import Requirement

EN, ZH = "en", "zh"
LANGUAGES = (EN, ZH)

_EN = {
    "where": "where",
    "found": "found",
    "expected": "expected",
    "effect": "effect",
    "fix": "fix",
    "reason": "reason",
    "why": "why",
    "source": "source",
    "note": "note",
    "ERROR": "ERROR",
    "WARN": "WARN",
    "NOTE": "NOTE",
    "WAIVED": "WAIVED",
    "in": "in",
    "the directory": "the directory",
    "who": "profile {profile} ({evidence}), model dtype {dtype}, level {level}",
    "unknown dtype": "unknown",
    "weights": "; weights: {}",
    "size": "{tensors} tensors in {files} files, {bytes} bytes",
    "ok": "ok",
    "will not load": "will not load",
    "loads with wrong results": "loads with wrong results",
    "unknown": "unknown",
    "CONFORMANT": "CONFORMANT to profile {profile}",
    "NOT_CONFORMANT": "NOT CONFORMANT",
    "NOTHING_CHECKED": "NOTHING CHECKED",
    "WAIVER_UNMATCHED": "WAIVER UNMATCHED",
    "violated": "{} violated",
    "passed": "{} passed",
    "to note": "{} to note",
    "waived": "{} waived",
    "left": "… and {} more kinds of findings: --report jsonl=FILE has all",
    "colon": ": ",
    "derived": "derived",
    "measured": "measured",
    "between": "; ",
    "and so on": ", ",
    "because of": "  ({})",
    "SQNR dB": "SQNR dB",
    "compared": "compared with the float model, sample {sample}: {count} tensors",
    "not judged": "not judged: {}",
    "count": "count",
    "steps": "steps",
    "unmatched": "waives nothing: {waiver} (line {line})",
    "summary": "Summary",
    "consumers": "Engines",
    "engine": "engine",
    "verdict": "verdict",
    "because": "because of",
    "serve with": "serve with",
    "findings": "Findings",
    "no findings": "No findings.",
    "numeric": "Compared with the float model",
    "heat map": "Requirements by layer",
    "heat map note": "tensors with a finding, by the first number in their names; - is the rest",
    "scales": "Scales by type",
    "scales note": "number of scales by their power of two, logarithmic bars",
    "no scales": "The scales are read at level values only.",
    "sizes": "Sizes",
    "checked": "Requirements",
    "requirement": "requirement",
    "title": "title",
    "status": "status",
    "type": "type",
    "tensor": "tensor",
    "tensors": "tensors",
    "bytes": "bytes",
    "share": "share",
    "rest": "rest",
    "total": "total",
    "search": "search findings",
    "all tensors": "first {shown} of {count} names",
    "not described": "not described",
    "elements": "elements",
    "smallest": "smallest",
    "largest": "largest",
    "odd values": "{zeros} zeros, {negative} negative, {bad} not finite",
    "unreadable": "{} tensors could not be read",
    "wide": "the histogram has more layers than fit: neighbours share a column",
    "status passed": "passed",
    "status failed": "failed",
    "status not applicable": "not applicable",
    "status not checked": "not checked",
    "status waived": "waived",
    "MUST": "MUST",
    "SHOULD": "SHOULD",
}

_ZH = {
    "where": "位置",
    "found": "实际",
    "expected": "期望",
    "effect": "影响",
    "fix": "修复",
    "reason": "理由",
    "why": "原因",
    "source": "出处",
    "note": "备注",
    "ERROR": "错误",
    "WARN": "警告",
    "NOTE": "提示",
    "WAIVED": "已豁免",
    "in": "于",
    "the directory": "整个目录",
    "who": "导出配置 {profile}（{evidence}），模型数据类型 {dtype}，检查级别 {level}",
    "unknown dtype": "未知",
    "weights": "；权重：{}",
    "size": "{files} 个文件，{tensors} 个张量，{bytes} 字节",
    "ok": "可用",
    "will not load": "无法加载",
    "loads with wrong results": "可加载，但结果错误",
    "unknown": "无法判断",
    "CONFORMANT": "符合规范（导出配置 {profile}）",
    "NOT_CONFORMANT": "不符合规范",
    "NOTHING_CHECKED": "没有检查任何要求",
    "WAIVER_UNMATCHED": "豁免项未匹配",
    "violated": "违反 {} 项",
    "passed": "通过 {} 项",
    "to note": "提示 {} 项",
    "waived": "豁免 {} 项",
    "left": "…… 另有 {} 类问题未列出：--report jsonl=FILE 给出全部",
    "colon": "：",
    "derived": "推导得出",
    "measured": "实测",
    "between": "；",
    "and so on": "，",
    "because of": "（{}）",
    "SQNR dB": "SQNR dB",
    "compared": "与浮点模型比较，抽样 {sample}：{count} 个张量",
    "not judged": "未判定：{}",
    "count": "个数",
    "steps": "步数",
    "unmatched": "豁免项未匹配任何问题：{waiver}（第 {line} 行）",
    "summary": "概要",
    "consumers": "推理引擎",
    "engine": "引擎",
    "verdict": "结论",
    "because": "依据",
    "serve with": "启动命令",
    "findings": "问题",
    "no findings": "没有发现问题。",
    "numeric": "与浮点模型比较",
    "heat map": "要求 × 层",
    "heat map note": "有问题的张量数，按名称中的第一个数字分层；“-”为其余张量",
    "scales": "各类型的 scale 分布",
    "scales note": "按 2 的幂统计的 scale 个数，柱高取对数",
    "no scales": "仅在 values 级别读取 scale。",
    "sizes": "大小",
    "checked": "要求",
    "requirement": "要求",
    "title": "标题",
    "status": "状态",
    "type": "类型",
    "tensor": "张量",
    "tensors": "张量数",
    "bytes": "字节",
    "share": "占比",
    "rest": "其余",
    "total": "合计",
    "search": "搜索问题",
    "all tensors": "共 {count} 个名称，列出前 {shown} 个",
    "not described": "未描述",
    "elements": "元素数",
    "smallest": "最小",
    "largest": "最大",
    "odd values": "{zeros} 个零，{negative} 个负数，{bad} 个非有限值",
    "unreadable": "{} 个张量无法读取",
    "wide": "层数过多：相邻层合并为一列",
    "status passed": "通过",
    "status failed": "未通过",
    "status not applicable": "不适用",
    "status not checked": "未检查",
    "status waived": "已豁免",
    "MUST": "必须",
    "SHOULD": "应当",
}

WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType({EN: _EN, ZH: _ZH})


def said(text: str, lang: str = EN) -> str:
    """What a rule, an engine or a reader says, in the language."""
    return in_chinese(text) if lang == ZH else text


def title(requirement: Requirement, lang: str = EN) -> str:
    return requirement.title_zh if lang == ZH else requirement.title


def why(requirement: Requirement, kind: str = "", lang: str = EN) -> str:
    """What breaks where there is a finding of `kind`."""
    advice = requirement.advice(kind)
    return advice.why_zh if lang == ZH else advice.why


def fix(requirement: Requirement, kind: str = "", lang: str = EN) -> str:
    """How to mend a finding of `kind`."""
    advice = requirement.advice(kind)
    return advice.fix_zh if lang == ZH else advice.fix
