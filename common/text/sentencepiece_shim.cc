#include "common/text/sentencepiece_shim.h"
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <cstring>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>
#include "common/base/mem.h"

struct Spm {
    sentencepiece::SentencePieceProcessor processor;
};

namespace
{

int status_error(Err *err, int code, const char *doing, const sentencepiece::util::Status &status)
{
    return err_set(err, code, "%s: %s", doing, status.ToString().c_str());
}

/* Runs f and turns what it throws into an error. */
template <typename F>
int guarded(Err *err, const char *doing, F f)
{
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return err_set(err, ERR_NOMEM, "%s: out of memory", doing);
    } catch (const std::exception &e) {
        return err_set(err, ERR_FORMAT, "%s: %s", doing, e.what());
    } catch (...) {
        return err_set(err, ERR_FORMAT, "%s: unknown exception", doing);
    }
}

char *copy_bytes(const std::string &s, Err *err)
{
    return mem_strndup(s.data(), static_cast<int64_t>(s.size()), err);
}

class Lines : public sentencepiece::SentenceIterator
{
  public:
    Lines(const char *const *lines, int64_t n) : lines_(lines), n_(n)
    {
        load();
    }
    bool done() const override
    {
        return at_ >= n_;
    }
    void Next() override
    {
        at_++;
        load();
    }
    const std::string &value() const override
    {
        return value_;
    }
    sentencepiece::util::Status status() const override
    {
        return sentencepiece::util::Status();
    }

  private:
    void load()
    {
        if (at_ < n_)
            value_ = lines_[at_];
    }
    const char *const *lines_;
    int64_t n_, at_ = 0;
    std::string value_;
};

} // namespace

int spm_open(Spm **out, const void *bytes, int64_t size, Err *err)
{
    *out = nullptr;
    Spm *p = nullptr;
    int rc = guarded(err, "tokeniser model", [&] {
        p = new Spm;
        auto status = p->processor.LoadFromSerializedProto(
            absl::string_view(static_cast<const char *>(bytes), static_cast<size_t>(size)));
        return status.ok() ? 0 : status_error(err, ERR_FORMAT, "tokeniser model", status);
    });
    if (rc < 0)
        delete p;
    else
        *out = p;
    return rc;
}

void spm_close(Spm **p)
{
    delete *p;
    *p = nullptr;
}

SpmIds spm_ids(const Spm *p)
{
    const auto &s = p->processor;
    return SpmIds{s.GetPieceSize(), s.pad_id(), s.eos_id(), s.unk_id()};
}

int spm_encode(const Spm *p, const char *text, int64_t size, int32_t **ids, int64_t *n, Err *err)
{
    return guarded(err, "tokenising", [&] {
        std::vector<int> got;
        auto status = p->processor.Encode(absl::string_view(text, static_cast<size_t>(size)), &got);
        if (!status.ok())
            return status_error(err, ERR_FORMAT, "tokenising", status);
        auto *grown = static_cast<int32_t *>(
            mem_realloc(*ids, *n + static_cast<int64_t>(got.size()), sizeof(int32_t), err));
        if (!grown)
            return static_cast<int>(ERR_NOMEM);
        *ids = grown;
        for (int id : got)
            grown[(*n)++] = id;
        return 0;
    });
}

char *spm_decode(const Spm *p, const int32_t *ids, int64_t n, Err *err)
{
    char *text = nullptr;
    guarded(err, "joining tokens", [&] {
        std::string joined;
        auto status = p->processor.Decode(std::vector<int>(ids, ids + n), &joined);
        if (!status.ok())
            return status_error(err, ERR_FORMAT, "joining tokens", status);
        text = copy_bytes(joined, err);
        return 0;
    });
    return text;
}

int spm_train(const char *const *lines, int64_t n, int64_t vocab, char **model, int64_t *size, Err *err)
{
    return guarded(err, "training a tokeniser", [&] {
        Lines input(lines, n);
        std::string bytes;
        const std::unordered_map<std::string, std::string> settings = {
            {"model_type", "unigram"},
            {"vocab_size", std::to_string(vocab)},
            {"hard_vocab_limit", "false"},
            {"normalization_rule_name", "nmt_nfkc"},
            {"character_coverage", "1.0"},
            {"pad_id", "0"},
            {"eos_id", "1"},
            {"unk_id", "2"},
            {"bos_id", "-1"},
            {"num_threads", "1"}, /* sums in one order: the same bits every time */
            {"minloglevel", "2"},
        };
        auto status = sentencepiece::SentencePieceTrainer::Train(settings, &input, &bytes);
        if (!status.ok())
            return status_error(err, ERR_USAGE, "training a tokeniser", status);
        *size = static_cast<int64_t>(bytes.size());
        *model = copy_bytes(bytes, err);
        return *model ? 0 : static_cast<int>(ERR_NOMEM);
    });
}
