import type { Words } from './words.js';

const TELL_SUPPORT = '続く場合は、下のリクエスト番号を添えてこのサイトの運営者にお知らせください。';

export const ja: Words = {
  language: 'ja',
  direction: 'ltr',
  problems: {
    session_not_found: {
      title: 'ログインしていません',
      happened: 'このページはログインした方だけがご覧になれます。',
      todo: 'ログインすると、ここに戻ります。',
    },
    session_expired: {
      title: 'セッションが終了しました',
      happened: 'しばらく使われなかったか、別の場所で終了されました。',
      todo: '続けるには、もう一度ログインしてください。',
    },
    reauthentication_required: {
      title: 'もう一度ログインしてください',
      happened: 'ログインサービスがセッションを終了しました。',
      todo: '続けるには、もう一度ログインしてください。',
    },
    insufficient_user_authentication: {
      title: '再度ログインが必要です',
      happened: 'このページには、今より強い方法でのログインが必要です。',
      todo: 'もう一度ログインすると、ここに戻ります。',
    },
    bearer_invalid: {
      title: 'アクセスが拒否されました',
      happened: 'このアドレスはプログラム用です。アクセストークンがないか、受け付けられません。',
      todo: 'プログラムからここに来た場合は、そのアクセスの期限が切れている可能性があります。',
    },
    forbidden: {
      title: 'このページは表示できません',
      happened: 'ログインしていますが、このアカウントにはこのページの権限がありません。',
      todo: '必要な場合は、下のリクエスト番号を添えてこのサイトの運営者にお問い合わせください。',
    },
    csrf_rejected: {
      title: '安全のために停止しました',
      happened: '別のサイトが、あなたの名前でここで何かを行おうとしました。',
      todo: 'ご自身の操作であれば、このサイトを開いて、そこからやり直してください。',
    },
    navigation_required: {
      title: 'ここではログインを開けません',
      happened:
        'ログインは独立したページとしてだけ開きます。事前の読み込みや、ほかのページの中では開きません。',
      todo: 'ご自身でログインを開いてください。',
    },
    callback_rejected: {
      title: 'ログインできませんでした',
      happened: 'ログインサービスの応答を受け付けられませんでした。',
      todo: `もう一度ログインを始めてください。${TELL_SUPPORT}`,
    },
    return_to_rejected: {
      title: 'このログイン用リンクは無効です',
      happened: 'ログインの後、このサイトの外に移動してしまいます。',
      todo: 'ここでログインしてから、目的のページに移動してください。',
    },
    cookie_ambiguous: {
      title: '二つのログインが競合しました',
      happened:
        'ブラウザーにこのサイトのセッションクッキーが二つあり、一つはあなたのものではない可能性があります。',
      todo: 'ブラウザーでこのサイトのクッキーを削除してから、もう一度お試しください。',
    },
    logout_token_invalid: {
      title: 'このアドレスはログインサービス用です',
      happened: '送られたものは、ログアウトの正しい通知ではありません。',
      todo: 'スタートページに移動してください。',
    },
    path_ambiguous: {
      title: 'このアドレスは無効です',
      happened: '複数の読み方ができるため、開きませんでした。',
      todo: 'アドレスを確認するか、スタートページに移動してください。',
    },
    request_invalid: {
      title: 'このアドレスは無効です',
      happened: 'アドレスの一部が欠けているか、重複しているか、誤っています。',
      todo: 'アドレスを確認するか、スタートページに移動してください。',
    },
    method_not_allowed: {
      title: 'ページとして開くことはできません',
      happened: 'アドレスは存在しますが、使い方が異なります。',
      todo: 'スタートページに移動し、そこから進んでください。',
    },
    request_too_large: {
      title: '大きすぎます',
      happened: 'このアドレスが受け付ける量を超えて送信されました。',
      todo: '量を減らすか、分けて送信してください。',
    },
    address_too_long: {
      title: 'このアドレスは長すぎます',
      happened: 'このサイトが受け付ける文字数を超えています。',
      todo: 'スタートページに移動し、そこから進んでください。',
    },
    headers_too_large: {
      title: 'ブラウザーからの送信が多すぎます',
      happened: '多くの場合、このサイトのクッキーが多すぎることが原因です。',
      todo: 'ブラウザーでこのサイトのクッキーを削除してから、もう一度お試しください。',
    },
    request_timeout: {
      title: '接続が遅すぎました',
      happened: 'リクエストが届くまでに時間がかかりすぎました。',
      todo: '接続の状態が良いときに、もう一度お試しください。',
    },
    rate_limited: {
      title: '試行回数が多すぎます',
      happened: 'お使いのネットワークから短時間に多くのログインがありました。',
      todo: '一分待ってから、もう一度お試しください。',
    },
    not_found: {
      title: 'ページが見つかりません',
      happened: 'アドレスが誤っているか、ページがなくなった可能性があります。',
      todo: 'アドレスを確認するか、スタートページに移動してください。',
    },
    token_unreadable: {
      title: 'セッションに問題があります',
      happened: '保存されたデータを読み取れません。このサイトの運営者には通知されています。',
      todo: '後でもう一度お試しください。ログインは続いています。',
    },
    internal_error: {
      title: '問題が発生しました',
      happened: 'あなたの操作のせいではありません。',
      todo: `もう一度お試しください。${TELL_SUPPORT}`,
    },
    provider_rejected: {
      title: 'ログインサービスがこのサイトで使えません',
      happened: 'ログインサービスがこのサイトを拒否しています。運営者には通知されています。',
      todo: '後でもう一度お試しください。ログインしていた場合は、続いています。',
    },
    upstream_unavailable: {
      title: 'サイトのこの部分は利用できません',
      happened: 'このページのサービスが応答しません。',
      todo: `少し待ってから、もう一度お試しください。${TELL_SUPPORT}`,
    },
    provider_unavailable: {
      title: 'ログインサービスを利用できません',
      happened: '現在つながりません。ログインしていた場合は、続いています。',
      todo: '少し待ってから、もう一度お試しください。',
    },
    storage_unavailable: {
      title: 'このサイトは現在利用できません',
      happened: 'サイトのデータにつながりません。ログインしていた場合は、続いています。',
      todo: '少し待ってから、もう一度お試しください。',
    },
    upstream_timeout: {
      title: 'このページは時間がかかりすぎています',
      happened: 'このページのサービスが時間内に応答しませんでした。',
      todo: `少し待ってから、もう一度お試しください。${TELL_SUPPORT}`,
    },
  },
  loginFailures: {
    state: {
      title: 'ログインできませんでした',
      happened:
        'ログインの開始時にこのサイトが渡したものを、ブラウザーが返しませんでした。クッキーがブロックされているか、時間がかかりすぎたか、別のタブで完了した可能性があります。',
      todo: 'このサイトのクッキーを許可してから、もう一度ログインしてください。',
    },
    denied: {
      title: 'ログインされませんでした',
      happened: 'ログインが取り消されたか、ログインサービスがここへの利用を許可していません。',
      todo: 'もう一度ログインするか、このサイトの運営者に利用を申し込んでください。',
    },
    busy: {
      title: 'ログインサービスに問題があります',
      happened: '現在ログインを完了できませんでした。',
      todo: `少し待ってから、もう一度ログインしてください。${TELL_SUPPORT}`,
    },
    question: {
      title: 'ログインが完了していません',
      happened: 'ログインサービスが、先に別の入力を必要としています。',
      todo: 'もう一度ログインして、質問に答えてください。',
    },
    clock: {
      title: 'ログインできませんでした',
      happened:
        'このサイトの時計では、ログインサービスの応答は期限切れか、まだ有効ではありません。どちらかの時計がずれている可能性があります。',
      todo: `もう一度ログインしてください。${TELL_SUPPORT}`,
    },
    loggedOut: {
      title: '再びログアウトされました',
      happened: 'ログイン中に、別の場所でセッションが終了されました。',
      todo: '続けるには、もう一度ログインしてください。',
    },
  },
  ways: { login: 'ログイン', retry: 'もう一度試す', home: 'スタートページへ' },
  requestId: 'リクエスト番号',
  onward: { title: '少々お待ちください', way: '続ける' },
  framedLogin: {
    title: 'ログインしてください',
    todo: 'ログインは別のタブで開きます。終わったら、このページを再読み込みしてください。',
    way: '新しいタブでログイン',
  },
  start: {
    title: 'セッション',
    anonymous: 'ログインしていません',
    todo: '続けるにはログインしてください。セッションはいつでも確認し、終了できます。',
    hello: 'こんにちは、{name} さん',
    account: '自分のセッション',
  },
  account: {
    title: 'アカウント',
    sessions: 'ログイン中の場所',
    lastUsed: '最終利用 {time}',
    since: '開始 {time}',
    current: 'このセッション',
    end: '終了',
    endOne: 'セッションを終了: {device}、{address}',
    endOthers: 'ほかのセッションをすべて終了',
    back: 'スタートページに戻る',
    notices: {
      ended: 'セッションを終了しました。',
      gone: 'そのセッションはすでに終了していました。',
      others: 'ほかのセッションをすべて終了しました。',
    },
  },
  admin: {
    title: '利用者のセッション',
    find: 'ユーザー名、メールアドレス、またはサブジェクト',
    hint: 'ログインサービスに登録されているとおりに、全部入力してください。',
    search: '検索',
    nobody:
      '該当する人は見つかりません。ユーザー名は、そのセッションの記録が残っている間だけ検索できます。',
    several: 'どの人ですか',
    sessions: '有効なセッション',
    noSessions: '有効なセッションはありません。',
    next: '次のページ',
    events: '最近の出来事',
    noEvents: '記録はありません。',
    endAll: 'すべてのセッションを終了',
    confirmOne: '{name} さんのこのセッションを終了しますか',
    confirmAll: '{name} さんのすべてのセッションを終了しますか',
    confirm: '今すぐ終了',
    cancel: 'そのままにする',
    event: {
      login: 'ログイン',
      session_ended: 'セッションの終了',
      refresh_failed: '更新の失敗',
      reuse_suspected: 'トークン盗難の疑い',
      provider_logout: 'ログインサービスへ通知',
      logout_token_refused: 'ログアウト通知の拒否',
    },
    endReason: {
      logout: 'ログアウト',
      backchannel_logout: 'ログインサービスでのログアウト',
      frontchannel_logout: 'ログインサービス経由のブラウザーでのログアウト',
      ended_by_user: 'アカウントページで終了',
      ended_by_admin: '管理者による終了',
      replaced: '新しいログインによる置き換え',
      session_limit: '一人あたりのセッション数の超過',
      idle_timeout: '長時間の未使用',
      refresh_expired: 'ログインサービスでの期限切れ',
      absolute_timeout: '最長時間に到達',
      grant_ended: 'ログインサービスによる拒否',
      subject_changed: 'ログインサービスが別の人を示した',
    },
    logoutOutcome: {
      ended: 'そちらでも終了',
      already_over: 'そちらではすでに終了',
      revoked: 'そちらでアクセスを取り消し',
      spared: 'そのまま：別のセッションが継続中',
      refused: 'そちらで拒否',
      expired: '期限切れで終了済み',
      postponed: '保留中：ログインサービスが応答しません',
    },
    actor: {
      user: '本人',
      provider: 'ログインサービス',
      gateway: 'ゲートウェイ',
      admin: '管理者',
      operator: '運用担当',
    },
    notices: {
      ended: 'セッションを終了しました。',
      gone: 'すでに終了していました。',
      all: '終了したセッション: {count}',
    },
  },
  person: {
    name: '名前',
    userName: 'ユーザー名',
    email: 'メール',
    roles: 'ロール',
    noRoles: 'なし',
    ends: 'セッションの終了',
    endsIfUnused: '使わない場合は {idle}、遅くとも {latest}',
  },
  device: '{browser}({system})',
  unknownDevice: '不明な端末',
  unknownAddress: '不明なアドレス',
  logOut: 'ログアウト',
  logOutFailed:
    'ログアウトできませんでした。まだログインしている可能性があります。少し待ってから、もう一度お試しください。',
  logInAgain: 'もう一度ログイン',
  loggedOut: {
    title: 'ログアウトしました',
    happened: 'セッションは終了しました。このページを閉じてください。',
  },
  over: {
    title: 'セッションが終了しました',
    happened:
      'しばらく使われなかったか、別の場所で終了されました。続けるには、もう一度ログインしてください。',
  },
  warning: {
    extendable: 'まもなくセッションが終了します。',
    final: 'まもなくセッションが終了します。延長はできません。',
    stay: 'ログインを続ける',
  },
};
