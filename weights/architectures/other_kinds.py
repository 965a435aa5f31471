"""Models that are known and write no text, or not as a decoder alone does: what each does."""

from collections.abc import Mapping, Set

WRITER = "what works is a model that writes, as 'qwen3'"
PICTURES = f"it looks at pictures and writes no text; {WRITER}, or the text of a 'qwen3_vl'"
SOUNDS = f"it hears or makes sounds; {WRITER}, or the text of a 'qwen3_asr'"
SERIES = f"it reads or foretells numbers, and no text; {WRITER}"
VECTORS = f"it makes vectors or labels of text and writes none; {WRITER}"
TWO_PARTS = (
    "an encoder reads and a decoder writes; what works is a decoder alone, as 'qwen3' or 'gemma3'"
)
PART = "it is a part of another model; what works is the folder of a whole that writes, as 'qwen3'"

OTHER_KINDS: Mapping[str, str] = {
    PICTURES: """
        aimv2 align altclip beit bit blip bridgetower chinese_clip chmv2 clip clipseg
        conditional_detr convnext convnextv2 cvt d_fine dab-detr data2vec-vision deformable_detr
        deimv2 deit depth_anything depth_pro detr dinat dinov2 dinov2_with_registers
        dinov3_convnext dinov3_vit donut-swin dpt edgetam edgetam_video efficientloftr
        efficientnet eomt eomt_dinov3 flava florence_vision focalnet glpn grounding-dino groupvit
        hgnet_v2 hiera ijepa imagegpt levit lightglue lw_detr lw_detr_vit mask2former maskformer
        maskformer-swin metaclip_2 mgp-str mm-grounding-dino mobilenet_v1 mobilenet_v2 mobilevit
        mobilevitv2 omdet-turbo oneformer owlv2 owlvit perceiver pixio poolformer
        pp_doclayout_v2 pp_doclayout_v3 pp_doclayout_v4 pp_formulanet pp_lcnet pp_lcnet_v3
        pp_lcnet_v4 pp_ocrv5_mobile_det pp_ocrv5_mobile_rec pp_ocrv5_server_det
        pp_ocrv5_server_rec pp_ocrv6_medium_det pp_ocrv6_small_det pp_ocrv6_small_rec
        pp_ocrv6_tiny_rec prompt_depth_anything pvt pvt_v2 radio regnet resnet rf_detr
        rf_detr_dinov2 rt_detr rt_detr_resnet rt_detr_v2 sam sam2 sam2_video sam3 sam3_lite_text
        sam3_tracker sam3_tracker_video sam3_video sam_hq sapiens2 sapiens2_head segformer seggpt
        siglip siglip2 slanet slanext superglue superpoint swiftformer swin swin2sr swinv2
        table-transformer textnet timesformer timm_backbone timm_wrapper tipsv2 tipsv2_dpt tvp
        upernet uvdoc uvdoc_backbone videomae videomt videoprism vilt vision-text-dual-encoder
        visual_bert vit vit_mae vit_msn vitdet vitmatte vitpose vitpose_backbone vivit vjepa2
        xclip yolos zoedepth pe_video colmodernvbert colpali colqwen2 layoutlmv2 layoutlmv3
        layoutxlm mlcd mlcd_vision_model modernvbert shieldgemma2 ultravbert""",
    SOUNDS: """
        audio-spectrogram-transformer bark canary clap clvp cohere_asr csm dac data2vec-audio dia
        encodec fastspeech2_conformer fastspeech2_conformer_hifigan
        fastspeech2_conformer_with_hifigan fun_asr_nano gradium_phonon_tts granite_speech5_ctc
        granite_speech5_encoder lasr_encoder nemotron3_5_transcribe_asr_audio
        nemotron3_5_transcribe_audio nemotron3_5_transcribe_word_timestamp parakeet_encoder
        higgs_audio_v2 hubert kyutai_speech_to_text lasr_ctc mimi moonshine moonshine_streaming
        moshi moss_transcribe_diarize musicgen musicgen_melody nemo_speechlm nemotron3_5_asr
        nemotron3_diarization nemotron_asr_streaming neucodec parakeet_ctc parakeet_rnnt
        parakeet_tdt pe_audio
        pe_audio_video pocket_tts pop2piano seamless_m4t seamless_m4t_v2 sew sew-d
        speech-encoder-decoder speech_to_text speecht5 speecht5_hifigan unispeech unispeech-sat
        univnet vibevoice vibevoice_asr vits voxtral_realtime wav2vec2 wav2vec2-bert
        wav2vec2-conformer wavlm wavtokenizer-dec xcodec xcodec2""",
    SERIES: """
        autoformer decision_transformer informer patchtsmixer patchtst pi0
        time_series_transformer timesfm timesfm2_5 esmfold2""",
    VECTORS: """
        albert bert bert-generation big_bird bros camembert canine convbert data2vec-text deberta
        deberta-v2 distilbert dpr electra embedding_gemma2 ernie esm esmc eurobert flaubert fnet
        funnel gemma-embedding gte ibert jev jina-bert-v2 jina-bert-v3 jina_embeddings_v3 layoutlm
        lilt llama-embed longformer luke lxmert markuplm megatron-bert mobilebert modern-bert
        modernbert mpnet mra neo-bert neomme nomic-bert nomic-bert-moe nomic_bert nystromformer
        openai_privacy_filter rembert roberta roberta-prelayernorm roc_bert roformer splinter
        squeezebert tapas ultrabert xlm xlm-roberta xlm-roberta-xl xmod yoso""",
    TWO_PARTS: """
        bart bigbird_pegasus blenderbot blenderbot-small encoder-decoder evolla EvollaModel
        florence2 fsmt led
        longt5 m2m_100 marian mbart mt5 mvp nllb-moe nougat pegasus pegasus_x pix2struct plbart
        prophetnet rag switch_transformers t5 t5encoder t5gemma t5gemma2 trocr udop umt5
        t5_gemma_module vision-encoder-decoder whisper""",
}

# What the name of a part says behind that of its whole.
PARTS = """
    acoustic adapter assistant audio backbone bigvgan code codebook decoder depth detr
    diffusion dit encoder geometry global hiera hifigan image local mask mm model module
    multimodal patcher perceiver perciever predictor prompt qformer sam talker text thinker
    timestamp token2wav tokenizer transcribe transformer vision vit vqgan vqmodel word det
"""


LONGEST = 60  # letters of a name


def other_kinds() -> dict[str, str]:
    return {name: why for why, names in OTHER_KINDS.items() for name in names.split()}


def is_part(name: str, wholes: Set[str]) -> bool:
    """Whether it is called as a part of one of these is."""
    if len(name) > LONGEST:  # a stranger's, who may write a megabyte of them
        return False
    words = _spelt(name).split("_")
    known, parts = set(map(_spelt, wholes)), set(PARTS.split())
    return any(
        "_".join(words[:end]) in known and parts.issuperset(words[end:])
        for end in range(1, len(words))
    )


def _spelt(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")
